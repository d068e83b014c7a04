"""What drf-spectacular cannot see by itself: the API key, and the problems that every endpoint may answer with."""

from copy import deepcopy
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerExtension

from alexandria.api.problems import CONTENT_TYPE, problem_body
from quota.exceptions import QuotaRefused
from quota.serializers import EXAMPLE_STATUS

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
        "request_id": {
            "type": "string",
            "description": "The request's id, for whoever asks us; `X-Request-ID` has it, too, in every answer.",
        },
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
            "enum": list(QuotaRefused.EXPLANATIONS),
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
QUOTA_EXHAUSTED = {
    "limit": "safety_limit",
    "asked": 2,
    "free": 1,
    "retry_at": "2026-05-06T00:00:00Z",
    "refusal": "7f3c1c52-7d0b-4c0e-9a53-0f4b9f8f2b11",
    "quota": EXAMPLE_STATUS | {"used": 12_990, "reserved": 9, "remaining": 1, "percentage_used": 99},
    "api_calls": 0,
}
INVALID = {"errors": [{"field": "isbns", "detail": "Give a list of 1 to 1,000 ISBNs.", "code": "required"}]}
# status -> description, headers, and by code an example's detail and what it has besides
PROBLEMS: dict[int, tuple[str, list[str], dict[str, tuple[str, Schema]]]] = {
    400: (
        *("The body, or a parameter, makes no sense.", []),
        {
            "invalid": ("isbns: Give a list of 1 to 1,000 ISBNs.", INVALID),
            "parse_error": ("JSON parse error - Expecting value: line 1 column 1 (char 0)", {}),
        },
    ),
    401: (
        *("The API key is missing or not valid.", ["WWW-Authenticate"]),
        {
            "not_authenticated": ("Authentication credentials were not provided.", {}),
            "authentication_failed": ("The API key is not known, was revoked or has expired.", {}),
        },
    ),
    403: (
        *("The key's consumer is switched off, or the key may not do this.", []),
        {
            "permission_denied": ("This API key's consumer is switched off.", {}),
            "consumer_inactive": ("Harvesting is switched off: crons and bulk work are refused every call.", {}),
        },
    ),
    404: (
        *("There is no such thing, or it is no ISBN.", []),
        {"not_found": ("'978044101359' is not a valid ISBN: wrong length.", {})},
    ),
    406: (
        *("Only JSON is to be had.", []),
        {"not_acceptable": ("Could not satisfy the request Accept header.", {})},
    ),
    409: (
        *("The job's state, or an earlier use of the idempotency key, stands against it.", []),
        {
            "idempotency_conflict": ("This idempotency key was used for something else.", {}),
            "job_ended": ("The job has succeeded already.", {}),
        },
    ),
    413: (
        *("The body is too long.", []),
        {"body_too_large": ("The body may have 4,194,304 bytes at the most.", {})},
    ),
    415: (
        *("The body is not JSON.", []),
        {"unsupported_media_type": ('Unsupported media type "text/plain" in request.', {})},
    ),
    422: (
        *("The idempotency key cannot be one.", []),
        {"idempotency_key_malformed": ("An idempotency key has 1 to 128 printable ASCII characters.", {})},
    ),
    429: (
        *("Too many requests by this key within a minute.", ["Retry-After"]),
        {"throttled": ("Request was throttled. Expected available in 12 seconds.", {})},
    ),
    500: (
        *("A mistake of ours. The log says more.", []),
        {"error": ("A server error occurred.", {})},
    ),
    502: (
        *("ISBNdb failed.", []),
        {"isbndb_failed": ("ISBNdb failed with status 500.", {"api_calls": 3})},
    ),
    503: (
        *("The database did not answer in time. No call was granted.", ["Retry-After"]),
        {
            "quota_unavailable": ("The quota's database did not answer in time.", {}),
            "database_unavailable": ("The database is out of reach.", {}),
        },
    ),
    504: (
        *("ISBNdb gave no answer in time.", []),
        {"isbndb_timeout": ("ISBNdb gave no answer within 30 s.", {"api_calls": 1})},
    ),
}
# What 429 means where calls are spent: that, or a limit of the quota.
REFUSED_OR_THROTTLED = (
    "A limit of the quota stands against it, or too many requests by this key within a minute.",
    ["Retry-After", "RateLimit", "RateLimit-Policy"],
    {
        "quota_exhausted": ("2 calls asked, 1 free: the calls of the day are used up or set aside.", QUOTA_EXHAUSTED),
        **PROBLEMS[429][2],
    },
)
EVERYWHERE = (401, 403, 406, 429, 500, 503)
WITH_PATH_PARAMETERS = (404,)
WITH_QUERY = (400,)
WITH_BODY = (400, 413, 415)
SPENDING = (502, 504)
AS_A_JOB = (409, 422)
CHANGING_A_JOB = (409,)


class ConsumerKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "quota.authentication.ConsumerKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: object) -> Schema:
        description = "`Api-Key <key>`, both words. `manage.py create_api_key NAME` makes a key."
        return {"type": "apiKey", "in": "header", "name": "Authorization", "description": description}


class StrictSerializerExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    target_class = "enrichment.serializers.strict.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: str) -> Schema:
        mapped: Schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)  # noqa: SLF001
        return mapped | {"additionalProperties": False}


def add_problems(result: Schema, **_: object) -> Schema:
    """Postprocessing hook: documents the problems of every operation.

    An operation that may spend calls says so with the extension `x-spends-calls`; others are `x-may-become-a-job` and
    `x-changes-a-job`.
    """
    result["components"]["schemas"]["Problem"] = PROBLEM
    for path, operations in result["paths"].items():
        for operation in operations.values():
            spends = bool(operation.get("x-spends-calls"))
            statuses = [*EVERYWHERE]
            statuses += WITH_PATH_PARAMETERS if "{" in path else ()
            statuses += WITH_BODY if "requestBody" in operation else ()
            statuses += WITH_QUERY if any(part["in"] == "query" for part in operation.get("parameters", ())) else ()
            statuses += SPENDING if spends else ()
            statuses += AS_A_JOB if operation.get("x-may-become-a-job") else ()
            statuses += CHANGING_A_JOB if operation.get("x-changes-a-job") else ()
            operation["responses"] |= {
                str(status): _problem_response(status, spends=spends) for status in sorted({*statuses})
            }
    return result


def _problem_response(status: int, *, spends: bool) -> Schema:
    description, headers, examples = REFUSED_OR_THROTTLED if spends and status == 429 else PROBLEMS[status]
    content = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "examples": {
            code: {"value": problem_body(status, code, detail) | members}
            for code, (detail, members) in examples.items()
        },
    }
    response: Schema = {"description": description, "content": {CONTENT_TYPE: content}}
    if headers:
        response["headers"] = {name: deepcopy(HEADERS[name]) for name in headers}
    return response
