"""Turns every error into ISBNdb's own form, `{"message", "error_message"}`, with the status that ISBNdb uses."""

from http import HTTPStatus
from math import ceil
from typing import Any

from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, JsonResponse, UnreadablePostError
from django.utils.log import log_response
from rest_framework.exceptions import APIException, Throttled, ValidationError
from rest_framework.settings import api_settings

from alexandria.common import searching, turns
from enrichment import exceptions as enrichment
from enrichment.api.answers import current_quota
from enrichment.services.stop_reasons import public_message
from quota import exceptions as quota
from quota.api import ratelimit_headers

CALLS, CACHE = "X-Api-Calls", "X-Cache"
RETRY_SOON = 5  # seconds

# exception -> status, message; "" stands for the status's standard words. Programs compare the words of ISBNdb.
STATUSES: dict[type[Exception], tuple[int, str]] = {
    quota.QuotaRefused: (429, "Daily quota exceeded"),
    Throttled: (429, "Per minute quota exceeded"),
    turns.TooManyAtOnce: (429, "Per minute quota exceeded"),
    quota.QuotaUnavailable: (503, ""),
    quota.ConsumerInactive: (403, ""),
    quota.ConsumerUnknown: (403, ""),
    quota.QuotaError: (503, ""),
    enrichment.IsbndbNotFound: (404, ""),
    enrichment.IsbndbInputRefused: (400, ""),
    enrichment.IsbndbPageTooLarge: (500, "Internal server error"),
    enrichment.IsbndbTimeout: (504, ""),
    enrichment.IsbndbUnavailable: (503, ""),
    enrichment.IsbndbError: (502, ""),
    searching.SearchTooSlow: (503, ""),
    OperationalError: (503, ""),
    InterfaceError: (503, ""),
    RequestDataTooBig: (413, ""),
    UnreadablePostError: (408, ""),
    SuspiciousOperation: (400, ""),  # such as a form with too many fields
}
UNEXPECTED = "The request failed. The log of the service says why."


def error_body(status: int, message: str = "", detail: str = "") -> dict[str, str]:
    """ISBNdb's ErrorResponse. `message`: a few words for programs. `detail`: what happened this time, for people."""
    message = message or HTTPStatus(status).phrase
    if not detail.startswith(message):
        detail = f"{message}. {detail}" if detail else message
    return {"message": message, "error_message": detail}


def too_long(limit: int) -> str:
    """What is said of a body of more bytes than the limit."""
    return f"The body is too long: the limit is {limit:,} bytes."


def origin_headers(api_calls: int) -> dict[str, str]:
    """Where an answer comes from, the store ("hit") or ISBNdb ("miss"); the calls spent for it, and the quota then."""
    headers = {CACHE: "miss" if api_calls else "hit", CALLS: str(api_calls)}
    status = current_quota() if api_calls else None
    return headers | (ratelimit_headers(status) if status else {})


def error_answer(error: Exception, context: dict[str, Any]) -> JsonResponse:
    """The exception handler of the views. Failures of ours and of ISBNdb are logged."""
    cause = enrichment.cause_of(error)
    expected = next((said for kind, said in STATUSES.items() if isinstance(cause, kind)), None)
    if expected is None and isinstance(cause, APIException):
        expected = cause.status_code, ""
    status, message = expected or (500, "")
    body = error_body(status, message, _detail(cause) if expected else UNEXPECTED)
    api_calls = error.result.api_calls if isinstance(error, enrichment.EnrichmentStopped) else 0
    headers = origin_headers(api_calls) if isinstance(cause, enrichment.IsbndbNotFound) else {CALLS: str(api_calls)}
    response = JsonResponse(body, status=status, headers=headers | _standard_headers(cause, status))
    if status >= 500:
        _report(cause, response, context["request"]._request, is_expected=expected is not None)  # noqa: SLF001
    return response


def _detail(cause: Exception) -> str:
    if isinstance(cause, RequestDataTooBig):
        return too_long(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
    if isinstance(cause, ValidationError):
        errors = cause.detail if isinstance(cause.detail, dict) else {api_settings.NON_FIELD_ERRORS_KEY: cause.detail}
        return " ".join(_named(field, said) for field, said in errors.items())
    return public_message(cause)


def _named(field: str, said: Any) -> str:
    """The first error of a field, after the field's name."""
    first = said[0] if isinstance(said, list) else said
    return str(first) if field == api_settings.NON_FIELD_ERRORS_KEY else f"{field}: {first}"


def _standard_headers(cause: Exception, status: int) -> dict[str, str]:
    if isinstance(cause, quota.QuotaRefused):
        return _headers_of_refusal(cause)
    if status == 401:
        return {"WWW-Authenticate": "Api-Key"}
    wait = RETRY_SOON if status == 503 else None
    if isinstance(cause, Throttled):
        wait = getattr(cause, "wait", None)
    if isinstance(cause, turns.TooManyAtOnce):
        wait = turns.RETRY_AFTER
    if isinstance(cause, enrichment.IsbndbUnavailable):
        wait = ceil(cause.retry_after or RETRY_SOON)
    return {"Retry-After": str(wait)} if wait else {}


def _headers_of_refusal(refusal: quota.QuotaRefused) -> dict[str, str]:
    if (now := current_quota()) is None:
        return {}
    headers = ratelimit_headers(now)
    if refusal.retry_at is not None:
        headers["Retry-After"] = str(max(1, ceil((refusal.retry_at - now.now).total_seconds())))
    return headers


def _report(cause: Exception, response: JsonResponse, request: HttpRequest, *, is_expected: bool) -> None:
    """Logs one line for a failure of ISBNdb, because the journal has its answer; and for others their traceback."""
    if not is_expected:
        signals.got_request_exception.send(sender=None, request=request)
    shown = None if isinstance(cause, enrichment.IsbndbError) else cause
    log_response("%s: %s", cause, request.path, response=response, request=request, exception=shown)
