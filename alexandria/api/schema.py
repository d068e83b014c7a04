"""Adds to the OpenAPI schema what drf-spectacular cannot find out: the API key, and the problems of every endpoint."""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerExtension

from alexandria.api.bodies import CHARSET_REFUSED, NO_LENGTH
from alexandria.api.problems import CONTENT_TYPE, DETAILS, problem_body
from alexandria.common.searching import SearchTooSlow
from enrichment.exceptions import JustReconciled, QueueFull, TooManyItems, TooManyJobs
from quota.exceptions import QuotaRefused
from quota.limits import LIMITS
from quota.serializers import EXAMPLE_STATUS

Schema = dict[str, Any]

EXAMPLE_JOB = "69b2f8e0-ddbd-474c-bc3d-f5271880edd2"
SETTINGS = [refusal.limit for refusal in (TooManyJobs, TooManyItems, QueueFull)]

PROBLEM: Schema = {
    "type": "object",
    "description": "An error (RFC 9457). Every error has the first five members. The others depend on the error.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "The last part of `type`, for programs."},
        "detail": {"type": "string", "description": "What happened this time, for people."},
        "request_id": {
            "type": "string",
            "description": "The request's id, as in `X-Request-ID` of every answer. Name it when you report a problem.",
        },
        "errors": {
            "type": "array",
            "description": "With 400: the fields that are not valid. `field` is null when the whole body is not valid.",
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
            "enum": [*LIMITS, *SETTINGS],
            "description": "With 429: the limit of the quota, or the name of the setting, that refused this.",
        },
        "asked": {"type": "integer", "description": "With 429: the number of calls, jobs, items or ISBNs requested."},
        "allowed": {"type": "integer", "description": "With 429 by a setting: its value."},
        "used": {"type": "integer", "description": "With 429 by a setting: what the consumer has already."},
        "free": {"type": "integer", "description": "With 429: the number of calls that were free."},
        "retry_at": {
            "type": "string",
            "format": "date-time",
            "nullable": True,
            "description": "With 429: when to try again. Null when a later retry does not help.",
        },
        "refusal": {
            "type": "string",
            "format": "uuid",
            "nullable": True,
            "description": "With 429: the id of the recorded refusal. Null when it could not be recorded.",
        },
        "job": {
            "type": "string",
            "format": "uuid",
            "description": "With 409: the earlier job of the same list. Resume or retry it, or send `again`.",
        },
        "calls_at_least": {"type": "integer", "description": "With 409: what the list costs if it is paid for again."},
        "calls_at_most": {"type": "integer", "description": "With 409: the same, at most, without retries."},
        "quota": {"$ref": "#/components/schemas/QuotaStatus"},
        "api_calls": {
            "type": "integer",
            "description": "With 429, 502, 503 and 504: the number of spent calls.",
        },
        "result": {
            "type": "object",
            "description": "With 429, 502, 503 and 504: the part that was done, in the form of the 200 answer.",
        },
    },
}
HEADERS: dict[str, Schema] = {
    "WWW-Authenticate": {"schema": {"type": "string"}, "description": "Api-Key"},
    "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."},
    "RateLimit": {"schema": {"type": "string"}, "description": '"daily";r=<calls free>;t=<seconds to the reset>'},
    "RateLimit-Policy": {
        "schema": {"type": "string"},
        "description": 'such as "daily";q=13000;w=86400, "pace";q=3;w=1',
    },
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


@dataclass(frozen=True)
class ProblemDoc:
    """`examples`: by code, the `detail` and the members besides the standard ones."""

    description: str
    examples: dict[str, tuple[str, Schema]]
    headers: list[str] = field(default_factory=list)


PROBLEMS: dict[int, ProblemDoc] = {
    400: ProblemDoc(
        "The body or a parameter is not valid.",
        {
            "invalid": ("isbns: Give a list of 1 to 1,000 ISBNs.", INVALID),
            "parse_error": ("JSON parse error - Expecting value: line 1 column 1 (char 0)", {}),
        },
    ),
    401: ProblemDoc(
        "The API key is missing or not valid.",
        {
            "not_authenticated": ("Authentication credentials were not provided.", {}),
            "authentication_failed": ("The API key is unknown, revoked or expired.", {}),
        },
        headers=["WWW-Authenticate"],
    ),
    403: ProblemDoc(
        "The key's consumer is switched off, or the key does not allow this.",
        {
            "permission_denied": ("This API key's consumer is switched off.", {}),
            "consumer_inactive": ("Harvesting is switched off: crons and bulk work get no calls.", {}),
        },
    ),
    404: ProblemDoc(
        "There is nothing at this address, or the ISBN is not valid.",
        {"not_found": ("'978044101359' is not a valid ISBN: wrong length.", {})},
    ),
    406: ProblemDoc(
        "The API does not answer in this form. It has JSON; lists of books also come as NDJSON and CSV.",
        {"not_acceptable": ("Could not satisfy the request Accept header. The answer can be application/json.", {})},
    ),
    409: ProblemDoc(
        "The state of the job, or of an earlier job for the same list, does not allow this, or the idempotency key was "
        "used for another request.",
        {
            "idempotency_conflict": ("This idempotency key was used for something else.", {}),
            "job_ended": ("The job has succeeded already.", {}),
            "job_not_paused": ("Only a paused job can be resumed. This job is running.", {}),
            "already_begun": ("A job for this list has begun and has not succeeded.", {"job": EXAMPLE_JOB}),
            "already_finished": (
                "This list was finished on 2026-05-05.",
                {"job": EXAMPLE_JOB, "calls_at_least": 120, "calls_at_most": 1_200},
            ),
        },
    ),
    410: ProblemDoc(
        "The job ended so long ago that its items are deleted. Its figures are kept.",
        {"items_deleted": ("The items of this job were deleted on 2026-06-05. Its figures are kept.", {})},
    ),
    408: ProblemDoc(
        "The body came too slowly, or not as a whole.",
        {"body_incomplete": (DETAILS["body_incomplete"], {})},
    ),
    411: ProblemDoc(
        "The body comes in chunks, so that its length is not known.",
        {"length_required": (NO_LENGTH, {})},
    ),
    413: ProblemDoc(
        "The body is too long.",
        {"body_too_large": (DETAILS["body_too_large"], {})},
    ),
    415: ProblemDoc(
        "The body has no type that this endpoint takes (`detail` names them), or its charset is not UTF-8 or ASCII.",
        {
            "unsupported_media_type": (
                'Unsupported media type "a/b" in request. Name its type in the header Content-Type: application/json.',
                {},
            ),
            "unsupported_charset": (CHARSET_REFUSED, {}),
        },
    ),
    422: ProblemDoc(
        "The idempotency key is not valid.",
        {"idempotency_key_malformed": ("An idempotency key has 1 to 128 printable ASCII characters.", {})},
    ),
    429: ProblemDoc(
        "This key made too many requests within a minute, or has too many under way that take long.",
        {
            "throttled": ("Request was throttled. Expected available in 12 seconds.", {}),
            "too_many_at_once": ("2 requests of yours that take long are under way. Wait until one ends.", {}),
        },
        headers=["Retry-After"],
    ),
    500: ProblemDoc(
        "An error in Alexandria. Its log has the details.",
        {"error": ("A server error occurred.", {})},
    ),
    502: ProblemDoc(
        "ISBNdb failed.",
        {"isbndb_failed": ("ISBNdb failed with status 500.", {"api_calls": 3})},
    ),
    503: ProblemDoc(
        "The database did not answer in time, and no call was granted; or a search took too long.",
        {
            "search_too_slow": (str(SearchTooSlow()), {}),
            "quota_unavailable": ("The quota's database did not answer in time.", {}),
            "database_unavailable": (DETAILS["database_unavailable"], {}),
        },
        headers=["Retry-After"],
    ),
    504: ProblemDoc(
        "ISBNdb did not answer in time.",
        {"isbndb_timeout": ("ISBNdb did not answer within 30 s.", {"api_calls": 1})},
    ),
}
TOO_LONG_ADDRESS: Schema = {
    "description": "The address is longer than 4,094 bytes. The web server answers, so the body is no problem."
}
LIMITED = ProblemDoc(
    "A setting allows no more jobs, or this key made too many requests within a minute.",
    {
        "too_many_jobs": (
            str(TooManyJobs(allowed=20, used=20, asked=1)),
            {"limit": TooManyJobs.limit, "allowed": 20, "used": 20, "asked": 1},
        ),
        **PROBLEMS[429].examples,
    },
    headers=["Retry-After"],
)
"""429 of the operations that change a job."""
REFUSED_OR_THROTTLED = ProblemDoc(
    "A limit of the quota or a setting refused this, or this key made too many requests within a minute.",
    {
        "quota_exhausted": (
            str(QuotaRefused(limit="safety_limit", asked=2, free=1, retry_at=None)),
            QUOTA_EXHAUSTED,
        ),
        **LIMITED.examples,
    },
    headers=["Retry-After", "RateLimit", "RateLimit-Policy"],
)
"""429 of the operations that spend calls."""
JUST_RECONCILED = str(JustReconciled(retry_after=7))
REFUSED_OR_JUST_RECONCILED = replace(
    REFUSED_OR_THROTTLED, examples=REFUSED_OR_THROTTLED.examples | {"just_reconciled": (JUST_RECONCILED, {})}
)
"""429 of the operation that asks ISBNdb's counter."""
EVERYWHERE = (401, 403, 406, 429, 500, 503)
WITH_PATH_PARAMETERS = (404,)
WITH_QUERY = (400,)
WITH_BODY = (400, 408, 411, 413, 415)
SPENDING = (502, 504)
AS_A_JOB = (409, 422)
CHANGING_A_JOB = (409,)
WITH_ITEMS = (410,)


class ConsumerKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "quota.authentication.ConsumerKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: object) -> Schema:
        description = "`Api-Key <key>`, with both words. `manage.py create_api_key NAME` creates a key."
        return {"type": "apiKey", "in": "header", "name": "Authorization", "description": description}


class StrictSerializerExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    target_class = "enrichment.serializers.strict.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: str) -> Schema:
        mapped: Schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)  # noqa: SLF001
        return mapped | {"additionalProperties": False}


class ListedBookExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """A list of books has the fields that the request names."""

    target_class = "enrichment.serializers.catalogue.ListedBookSerializer"

    def map_serializer(self, auto_schema: Any, direction: str) -> Schema:
        mapped: Schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)  # noqa: SLF001
        return mapped | {"required": ["isbn13"]}


def add_problems(result: Schema, **_: object) -> Schema:
    """Postprocessing hook that documents the problems of every operation.

    Operations mark themselves with the extensions `x-spends-calls`, `x-asks-the-counter`, `x-may-become-a-job`,
    `x-changes-a-job` and `x-has-items`.
    """
    result["components"]["schemas"]["Problem"] = PROBLEM
    for path, operations in result["paths"].items():
        for operation in operations.values():
            spends = bool(operation.get("x-spends-calls"))
            query = [part for part in operation.get("parameters", ()) if part["in"] == "query"]
            statuses = [*EVERYWHERE]
            statuses += WITH_PATH_PARAMETERS if "{" in path else ()
            statuses += WITH_BODY if "requestBody" in operation else ()
            statuses += WITH_QUERY if query else ()
            statuses += SPENDING if spends else ()
            statuses += AS_A_JOB if operation.get("x-may-become-a-job") else ()
            statuses += CHANGING_A_JOB if operation.get("x-changes-a-job") else ()
            statuses += WITH_ITEMS if operation.get("x-has-items") else ()
            for parameter in query:
                if not parameter.get("required"):
                    parameter["allowEmptyValue"] = True  # as if it were not there
            operation["responses"] |= {
                str(status): _problem_response(status, _too_many(operation) if status == 429 else PROBLEMS[status])
                for status in sorted({*statuses})
            }
            if query or "{" in path:
                operation["responses"]["414"] = deepcopy(TOO_LONG_ADDRESS)
    return result


def _too_many(operation: Schema) -> ProblemDoc:
    """The 429 of an operation."""
    if operation.get("x-asks-the-counter"):
        return REFUSED_OR_JUST_RECONCILED
    if operation.get("x-spends-calls"):
        return REFUSED_OR_THROTTLED
    return LIMITED if operation.get("x-changes-a-job") else PROBLEMS[429]


def _problem_response(status: int, doc: ProblemDoc) -> Schema:
    content = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "examples": {
            code: {"value": problem_body(status, code, detail) | members}
            for code, (detail, members) in doc.examples.items()
        },
    }
    response: Schema = {"description": doc.description, "content": {CONTENT_TYPE: content}}
    if doc.headers:
        response["headers"] = {name: deepcopy(HEADERS[name]) for name in doc.headers}
    return response
