"""Turns every error of the API into application/problem+json (RFC 9457). Maps exceptions to statuses in one place."""

import math
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import DisallowedHost, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, UnreadablePostError
from django.utils.log import log_response
from drf_standardized_errors.formatter import ExceptionFormatter
from drf_standardized_errors.handler import ExceptionHandler
from drf_standardized_errors.types import ErrorResponse
from rest_framework.exceptions import (
    APIException,
    ErrorDetail,
    NotAcceptable,
    NotFound,
    UnsupportedMediaType,
    ValidationError,
)
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from alexandria.common import searching, turns
from alexandria.monitoring.request_id import HEADER as REQUEST_ID
from enrichment import exceptions as enrichment
from enrichment.api.isbndb.errors import UNEXPECTED, error_body, too_long
from enrichment.serializers.authors import BibliographySerializer
from enrichment.serializers.books import EnrichmentSerializer
from enrichment.serializers.reconciliation import NotReconciledSerializer
from enrichment.serializers.releases import NewReleasesSerializer
from enrichment.services.bibliographies import Bibliography
from enrichment.services.enrich import Enrichment
from enrichment.services.reconciliation import NotReconciled
from enrichment.services.releases import NewReleases
from quota import exceptions as quota
from quota.api import ratelimit_headers
from quota.selectors.status import QuotaStatus, get_status
from quota.serializers import QuotaStatusSerializer

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
IN_API = ("/api/", "/isbndb/")
RETRY_SOON = 5  # seconds
RETRY_LATER = 60  # seconds, after which a job can have ended, or the queue can have sent something

# exception -> status, code
STATUSES: dict[type[Exception], tuple[int, str]] = {
    quota.QuotaRefused: (429, "quota_exhausted"),
    quota.QuotaUnavailable: (503, "quota_unavailable"),
    quota.ConsumerInactive: (403, "consumer_inactive"),
    quota.ConsumerUnknown: (403, "consumer_unknown"),
    quota.QuotaError: (503, "quota_unavailable"),
    enrichment.JustReconciled: (429, "just_reconciled"),
    enrichment.JobEnded: (409, "job_ended"),
    enrichment.NothingToRetry: (409, "nothing_to_retry"),
    enrichment.JobNotPaused: (409, "job_not_paused"),
    enrichment.AlreadyBegun: (409, "already_begun"),
    enrichment.AlreadyFinished: (409, "already_finished"),
    enrichment.AnotherRunner: (409, "another_runner"),
    enrichment.IdempotencyKeyReused: (409, "idempotency_conflict"),
    enrichment.IdempotencyKeyMalformed: (422, "idempotency_key_malformed"),
    enrichment.ItemsDeleted: (410, "items_deleted"),
    enrichment.TooManyJobs: (429, "too_many_jobs"),
    enrichment.TooManyItems: (429, "too_many_items"),
    enrichment.QueueFull: (429, "queue_full"),
    enrichment.IsbndbTimeout: (504, "isbndb_timeout"),
    enrichment.IsbndbError: (502, "isbndb_failed"),
    turns.TooManyAtOnce: (429, "too_many_at_once"),
    searching.SearchTooSlow: (503, "search_too_slow"),
    OperationalError: (503, "database_unavailable"),
    InterfaceError: (503, "database_unavailable"),
    RequestDataTooBig: (413, "body_too_large"),
    UnreadablePostError: (408, "body_incomplete"),
}
# partial result of an operation that ended early -> its serializer
RESULTS: dict[type, type[Serializer[Any]]] = {
    Enrichment: EnrichmentSerializer,
    Bibliography: BibliographySerializer,
    NewReleases: NewReleasesSerializer,
    NotReconciled: NotReconciledSerializer,
}
# code -> text that replaces the exception's own
DETAILS = {
    "database_unavailable": "The database does not answer. Try again soon.",
    "body_incomplete": "The body did not come in time. Send it again.",
    "body_too_large": too_long(settings.DATA_UPLOAD_MAX_MEMORY_SIZE),
}


class Problem(APIException):
    """A domain exception on its way to the client. `members` are added to the standard members of the body."""

    def __init__(self, cause: Exception, status: int, code: str) -> None:
        self.status_code = status
        self.members: dict[str, Any] = {}
        self.headers: dict[str, str] = {}
        self.wait: int | None = RETRY_SOON if status == 503 else None
        super().__init__(DETAILS.get(code) or str(cause), code)
        if isinstance(cause, quota.PaceTimeout | enrichment.IsbndbUnavailable) and cause.retry_after:
            self.wait = math.ceil(cause.retry_after)
        if isinstance(cause, quota.QuotaRefused):
            self._add_refusal(cause)
        if isinstance(cause, enrichment.JustReconciled):
            self.wait = cause.retry_after
        if isinstance(cause, turns.TooManyAtOnce):
            self.wait = turns.RETRY_AFTER
        if isinstance(cause, enrichment.AlreadyBegun | enrichment.AlreadyFinished):
            self.members |= {"job": str(cause.job.pk)}
        if isinstance(cause, enrichment.AlreadyFinished):
            self.members |= {"calls_at_least": cause.calls_at_least, "calls_at_most": cause.calls_at_most}
        if isinstance(cause, enrichment.LimitReached):
            self.members |= {"limit": cause.limit, "allowed": cause.allowed, "used": cause.used, "asked": cause.asked}
            self.wait = RETRY_LATER if cause.can_come_free else None

    def _add_refusal(self, refusal: quota.QuotaRefused) -> None:
        self.members |= {"limit": refusal.limit, "asked": refusal.asked, "free": refusal.free}
        self.members |= {"retry_at": refusal.retry_at, "refusal": refusal.refusal_id}
        if status := _status():
            self.add_status(status)
            if refusal.retry_at is not None:
                self.wait = max(1, -int((status.now - refusal.retry_at).total_seconds() // 1))

    def add_status(self, status: QuotaStatus) -> None:
        self.members["quota"] = QuotaStatusSerializer(status).data
        self.headers |= ratelimit_headers(status)


class ProblemHandler(ExceptionHandler):
    def convert_known_exceptions(self, exc: Exception) -> Exception:
        cause = enrichment.cause_of(exc)
        for kind, (status, code) in STATUSES.items():
            if isinstance(cause, kind):
                problem = Problem(cause, status, code)
                if isinstance(exc, enrichment.EnrichmentStopped):
                    result = RESULTS[type(exc.result)](exc.result).data
                    problem.members |= {"api_calls": result["api_calls"], "result": result}
                    # After a 503 the database is slow or gone. A second question would delay the answer further.
                    has_database = status != 503 or isinstance(cause, quota.PaceTimeout)
                    if has_database and "quota" not in problem.members and (now := _status()):
                        problem.add_status(now)
                return problem
        if isinstance(exc, UnsupportedMediaType):
            kinds = _listed(parser.media_type for parser in self.context["view"].parser_classes)
            text = f"{exc.detail} Name its type in the header Content-Type: {kinds}."
            exc.detail = ErrorDetail(text, exc.default_code)
        if isinstance(exc, NotAcceptable):
            kinds = _listed(renderer.media_type for renderer in self.context["view"].renderer_classes)
            exc.detail = ErrorDetail(f"{exc.detail} The answer can be {kinds}.", exc.default_code)
        converted: Exception = super().convert_known_exceptions(exc)
        return converted

    def report_exception(self, exc: APIException, response: Response) -> None:
        """Logs one line for an expected error. The base class would log every 5xx as a crash with code 500."""
        request: Any = self.context["request"]
        if not isinstance(exc, Problem):
            super().report_exception(exc, response)
        elif exc.status_code >= 500:
            log_response(
                "%s: %s",
                exc.detail,
                request.path,
                response=response,
                request=request,
                exception=self.exc if exc.status_code == 503 else None,  # the journal has what ISBNdb answered
            )

    def get_response(self, exc: APIException, data: dict[str, Any]) -> Response:
        request: Any = self.context["request"]  # its view can have another renderer: the schema, the docs
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
        headers = self.get_headers(exc) | getattr(exc, "headers", {})
        return Response(data, status=exc.status_code, headers=headers, content_type=CONTENT_TYPE)


class ProblemFormatter(ExceptionFormatter):
    def format_error_response(self, error_response: ErrorResponse) -> dict[str, Any]:
        errors = error_response.errors
        body = problem_body(self.exc.status_code, errors[0].code, str(errors[0].detail))
        if isinstance(self.exc, ValidationError):
            body = problem_body(self.exc.status_code, "invalid", str(errors[0].detail))
            whole_body = api_settings.NON_FIELD_ERRORS_KEY
            fields = [None if error.attr == whole_body else error.attr for error in errors]
            body["detail"] = f"{fields[0]}: {body['detail']}" if fields[0] else body["detail"]
            body["errors"] = [
                {"field": field, "detail": str(error.detail), "code": error.code}
                for field, error in zip(fields, errors, strict=True)
            ]
        return body | getattr(self.exc, "members", {}) | request_id_of(self.context["request"])


class NoSuchPath(APIView):
    """Answers for paths under /api/ without a view. It needs a key, as the views do."""

    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound(f"There is nothing at {request.path}. /api/docs/ lists all paths.")


def problem_body(status: int, code: str, detail: str) -> dict[str, Any]:
    return {
        "type": f"urn:alexandria:problem:{code.replace('_', '-')}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }


def problem_for_html(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware that turns HTML errors under /api/ into problems: a bad host, an error in another middleware.

    Under /isbndb/, it turns them into ISBNdb's own form.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        status = response.status_code
        is_html = response.headers.get("Content-Type", "").startswith("text/html")
        if status < 400 or not is_html or not request.path.startswith(IN_API):
            return response
        return refusal(request, status, "error", _host_refused(request) or UNEXPECTED)

    return middleware


def refusal(request: HttpRequest, status: int, code: str, detail: str) -> HttpResponse:
    """An error that no view answers, in the form of its path: a problem, ISBNdb's own form, or else a plain text."""
    if request.path.startswith("/isbndb/"):
        return JsonResponse(error_body(status, detail=detail), status=status)
    if not request.path.startswith(IN_API):
        return HttpResponse(f"{detail}\n", "text/plain; charset=utf-8", status)
    body = problem_body(status, code, detail)
    return JsonResponse(body | request_id_of(request), status=status, content_type=CONTENT_TYPE)


def _host_refused(request: HttpRequest) -> str:
    """Why Django refuses the host of the request. "" if it does not."""
    try:
        request.get_host()
    except DisallowedHost:
        return "The service has another name, or ALLOWED_HOSTS lacks this one."
    return ""


def request_id_of(request: Any) -> dict[str, str]:
    """The member with the request's id. The log and the answer's header have the same id."""
    request_id = request.headers.get(REQUEST_ID)
    return {"request_id": request_id} if request_id else {}


def _listed(media_types: Iterable[str]) -> str:
    """Once each, in order: one type can have several parsers or renderers."""
    *others, last = dict.fromkeys(media_types)
    return f"{', '.join(others)} or {last}" if others else last


def _status() -> QuotaStatus | None:
    """Today's quota, or None when it cannot be read: an error must not cause another one."""
    try:
        return get_status()
    except quota.QuotaUnavailable:
        return None
