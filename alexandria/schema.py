"""What drf-spectacular cannot see by itself: the API key, and the problems that every endpoint may answer with."""

from copy import deepcopy
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from alexandria.problems import CONTENT_TYPE, problem_body

Schema = dict[str, Any]

PROBLEM: Schema = {
    "type": "object",
    "description": "An error (RFC 9457). Members beyond the first five come with the errors that they explain.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "The last part of `type`, for programs."},
        "detail": {"type": "string", "description": "What went wrong this time, for people."},
        "errors": {
            "type": "array",
            "description": "With 400: each field that makes no sense; null is the body as a whole.",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string", "nullable": True},
                    "detail": {"type": "string"},
                    "code": {"type": "string"},
                },
            },
        },
        "limit": {
            "type": "string",
            "enum": ["safety_limit", "floor", "daily_budget", "cap_per_operation", "day_closed", "midnight"],
            "description": "With 429: which limit refused it.",
        },
        "asked": {"type": "integer", "description": "With 429: calls that were needed."},
        "free": {"type": "integer", "description": "With 429: calls that could have been had."},
        "retry_at": {
            "type": "string",
            "format": "date-time",
            "nullable": True,
            "description": "With 429: when to come back; null when that does not help.",
        },
        "refusal": {
            "type": "string",
            "format": "uuid",
            "nullable": True,
            "description": "With 429: its id on record, for whoever asks why; null when it could not be written.",
        },
        "quota": {"$ref": "#/components/schemas/QuotaStatus"},
        "api_calls": {"type": "integer", "description": "With 429, 502, 503 and 504: calls spent all the same."},
        "result": {
            "type": "object",
            "description": "With 429, 502, 503 and 504: what was done until then, in the terms of the answer 200.",
        },
    },
}
HEADERS: dict[str, Schema] = {
    "WWW-Authenticate": {"schema": {"type": "string"}, "description": "Api-Key"},
    "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."},
    "RateLimit": {"schema": {"type": "string"}, "description": '"daily";r=<calls free>;t=<seconds to the reset>'},
    "RateLimit-Policy": {"schema": {"type": "string"}, "description": 'as in "daily";q=13000;w=86400, "pace";q=3;w=1'},
}
# status -> description, headers, the example's code and detail
PROBLEMS: dict[int, tuple[str, list[str], str, str]] = {
    400: ("The body makes no sense.", [], "invalid", "isbns: This field is required."),
    401: (
        *("The API key is missing or not valid.", ["WWW-Authenticate"]),
        *("authentication_failed", "The API key is not known, was revoked or has expired."),
    ),
    403: ("The key's consumer is switched off.", [], "permission_denied", "This API key's consumer is switched off."),
    404: (
        *("Nothing is stored, or it is no ISBN.", []),
        *("not_found", "'978044101359' is not a valid ISBN: wrong length."),
    ),
    406: ("Only JSON is to be had.", [], "not_acceptable", "Could not satisfy the request Accept header."),
    413: ("The body is too long.", [], "body_too_large", "The body may have 4,194,304 bytes at the most."),
    415: (
        *("The body is not JSON.", []),
        *("unsupported_media_type", 'Unsupported media type "text/plain" in request.'),
    ),
    429: (
        *("A limit of the quota stands against it.", ["Retry-After", "RateLimit", "RateLimit-Policy"]),
        *("quota_exhausted", "1 call asked, 0 free: the calls of the day are used up or set aside."),
    ),
    502: ("ISBNdb failed.", [], "isbndb_failed", "ISBNdb failed with status 500."),
    503: (
        *("The database did not answer in time. No call was granted.", ["Retry-After"]),
        *("quota_unavailable", "The quota's database did not answer in time."),
    ),
    504: ("ISBNdb gave no answer in time.", [], "isbndb_timeout", "ISBNdb gave no answer within 30 s."),
}
EVERYWHERE = (401, 403, 406, 503)
WITH_PARAMETERS = (404,)
WITH_BODY = (400, 413, 415)
SPENDING = (429, 502, 504)


class ConsumerKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "quota.authentication.ConsumerKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: object) -> Schema:
        description = "`Api-Key <key>`, both words. `manage.py create_api_key NAME` makes a key."
        return {"type": "apiKey", "in": "header", "name": "Authorization", "description": description}


def add_problems(result: Schema, **_: object) -> Schema:
    """Postprocessing hook: documents the problems of every operation.

    An operation that may spend calls says so with the extension `x-spends-calls`.
    """
    result["components"]["schemas"]["Problem"] = PROBLEM
    for path, operations in result["paths"].items():
        for operation in operations.values():
            statuses = [*EVERYWHERE]
            statuses += WITH_PARAMETERS if "{" in path else ()
            statuses += WITH_BODY if "requestBody" in operation else ()
            statuses += SPENDING if operation.get("x-spends-calls") else ()
            operation["responses"] |= {str(status): _problem_response(status) for status in sorted(statuses)}
    return result


def _problem_response(status: int) -> Schema:
    description, headers, code, detail = PROBLEMS[status]
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": problem_body(status, code, detail)}
    response: Schema = {"description": description, "content": {CONTENT_TYPE: content}}
    if headers:
        response["headers"] = {name: deepcopy(HEADERS[name]) for name in headers}
    return response
