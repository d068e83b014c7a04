"""Every error under /api/ is a problem (RFC 9457), never an HTML page."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError, connection
from django.http import Http404, HttpResponse, UnreadablePostError
from django.test import Client
from rest_framework.permissions import AllowAny
from rest_framework.test import APIClient, APIRequestFactory
from rest_framework.views import APIView

from alexandria.api.problems import problem_for_html
from alexandria.development.sandbox.server import Sandbox
from enrichment.exceptions import (
    IdempotencyKeyReused,
    IsbndbRefused,
    IsbndbTimeout,
    IsbndbUnavailable,
    IsbndbUndecodable,
)
from quota.exceptions import (
    ConsumerInactive,
    ConsumerUnknown,
    PaceTimeout,
    QuotaRefused,
    QuotaUnavailable,
    ReservationClosed,
    ReservationSpent,
)
from tests.fixtures import NOON, SetClock, database_moved, stop_database_clock

MIDNIGHT = datetime(2026, 5, 6, tzinfo=UTC)


def problem(response) -> dict:
    assert response.headers["Content-Type"] == "application/problem+json"
    body = json.loads(response.content)
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:alexandria:problem:{body['code'].replace('_', '-')}"
    assert body["title"]
    assert body["detail"]
    return body


def answer_to(error: Exception):
    class Failing(APIView):
        authentication_classes = ()
        permission_classes = (AllowAny,)

        def get(self, request):
            raise error

    return Failing.as_view()(APIRequestFactory().get("/api/failing")).render()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (QuotaUnavailable("no answer"), 503, "quota_unavailable"),
        (PaceTimeout("busy"), 503, "quota_unavailable"),
        (ReservationClosed("over"), 503, "quota_unavailable"),
        (ReservationSpent("spent", missing=1), 503, "quota_unavailable"),
        (ConsumerInactive("off"), 403, "consumer_inactive"),
        (ConsumerUnknown("who?"), 403, "consumer_unknown"),
        (IdempotencyKeyReused("other"), 409, "idempotency_conflict"),
        (IsbndbTimeout("slow"), 504, "isbndb_timeout"),
        (IsbndbUnavailable("down"), 502, "isbndb_failed"),
        (IsbndbRefused("no"), 502, "isbndb_failed"),
        (IsbndbUndecodable("what?"), 502, "isbndb_failed"),
        (OperationalError("connection to 10.0.0.7 refused"), 503, "database_unavailable"),
        (InterfaceError("connection already closed"), 503, "database_unavailable"),
        (UnreadablePostError(), 408, "body_incomplete"),
        (RequestDataTooBig("DATA_UPLOAD_MAX_MEMORY_SIZE"), 413, "body_too_large"),
        (Http404("secret"), 404, "not_found"),
        (PermissionDenied("secret"), 403, "permission_denied"),
        (ZeroDivisionError("secret"), 500, "error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_exception_has_its_status(error: Exception, status: int, code: str) -> None:
    response = answer_to(error)
    body = problem(response)
    assert (body["status"], body["code"]) == (status, code)
    assert ("Retry-After" in response.headers) == (status == 503)
    for inside in ("secret", "10.0.0.7", "DATA_UPLOAD"):
        assert inside not in response.content.decode()


def test_a_read_only_database_counts_as_unavailable(api: APIClient) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    try:
        queued = api.post("/api/enrich/queue", ["9780441013593"], format="json")
        job = api.post("/api/enrich/batch-direct", ["9780441013593"], format="json", HTTP_PREFER="respond-async")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
    for response in (queued, job):
        assert problem(response)["code"] == "database_unavailable"
        assert "Retry-After" in response.headers


def test_a_refusal_names_its_limit_and_the_quota(set_clock) -> None:
    stop_database_clock(datetime(2026, 5, 5, 23, 59, 0, tzinfo=UTC))
    response = answer_to(QuotaRefused(limit="floor", asked=3, free=2, retry_at=MIDNIGHT))
    body = problem(response)
    assert (body["status"], body["code"]) == (429, "quota_exhausted")
    assert (body["limit"], body["asked"], body["free"]) == ("floor", 3, 2)
    assert body["retry_at"] == body["quota"]["reset_at"] == "2026-05-06T00:00:00Z"
    assert "leave calls free for others" in body["detail"]
    assert 30 < int(response.headers["Retry-After"]) <= 60
    assert {"RateLimit", "RateLimit-Policy"} <= set(response.headers)


@pytest.fixture(params=[True, False], ids=["debug", "production"])
def client(request: pytest.FixtureRequest, api: APIClient, settings) -> APIClient:
    settings.DEBUG = request.param
    return api


@pytest.mark.parametrize(("seconds", "header"), [(-5, 1), (0, 1), (0.2, 1), (1, 1), (1.001, 2), (36_000, 36_000)])
def test_retry_after_is_never_too_early_and_never_0(set_clock: SetClock, seconds: float, header: int) -> None:
    stop_database_clock(NOON)
    refusal = QuotaRefused(limit="floor", asked=1, free=0, retry_at=NOON + timedelta(seconds=seconds))
    assert answer_to(refusal).headers["Retry-After"] == str(header)


def test_an_unknown_path_is_a_problem_and_needs_a_key(client: APIClient) -> None:
    for path in ("/api/nope", "/api/", "/api/schemas", "/api/books/", "/api/quota/status/", "/api/%0a"):
        assert problem(client.get(path))["status"] == 404
    client.credentials()
    assert problem(client.post("/api/nope"))["status"] == 401


def test_a_host_that_is_not_allowed_is_a_problem(client: APIClient) -> None:
    for path in ("/api/quota/status", "/api/nope", "/api/docs/"):
        refused = problem(client.get(path, HTTP_HOST="evil.example"))
        assert (refused["status"], "ALLOWED_HOSTS" in refused["detail"]) == (400, True)


def test_an_unexpected_error_is_a_problem_and_is_logged(
    client: APIClient, monkeypatch: pytest.MonkeyPatch, printed: StringIO
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr("enrichment.api.books.enrich_isbns", fail)
    response = client.post("/api/enrich/batch-direct", ["9780441013593"], format="json")
    assert problem(response)["status"] == 500
    assert "a mistake" not in response.content.decode()
    assert "ZeroDivisionError: a mistake" in printed.getvalue()


def test_an_expected_error_is_one_log_line_without_a_traceback(
    client: APIClient, sandbox: Sandbox, printed: StringIO
) -> None:
    sandbox.add_fault("status", status=503)
    assert problem(client.post("/api/enrich/batch-direct", ["9780441013593"], format="json"))["status"] == 502
    lines = [line for line in printed.getvalue().splitlines() if "[django.request]" in line]
    assert len(lines) == 1
    assert "ISBNdb failed with status 503.: /api/enrich/batch-direct" in lines[0]
    assert "request_failed" not in printed.getvalue()
    assert "Traceback" not in printed.getvalue()
    assert "code=502" in printed.getvalue()


def test_no_key_is_logged_even_when_reading_it_fails(client: APIClient, key: str, printed: StringIO) -> None:
    with database_moved(port=1):
        assert problem(client.get("/api/quota/status"))["status"] == 503
    assert "get_from_key" in printed.getvalue()
    assert key not in printed.getvalue()


@pytest.mark.parametrize("path", ["/api/schema/", "/api/docs/"])
def test_pages_that_are_not_json_also_fail_with_a_problem(client: APIClient, path: str) -> None:
    assert problem(client.post(path))["status"] == 405
    assert problem(client.get(path, HTTP_ACCEPT="image/png"))["status"] == 406


def test_an_error_outside_the_api_stays_an_html_page() -> None:
    response = Client(raise_request_exception=False).get("/nope")
    assert response.status_code == 404
    assert response.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/api/x", 500, "application/problem+json"),
        ("/api/x", 200, "text/html"),
        ("/admin/x", 500, "text/html"),
    ],
)
def test_an_html_error_of_a_middleware_becomes_a_problem_only_under_api(path: str, status: int, kind: str) -> None:
    def page(request):
        return HttpResponse("<h1>Page</h1>", status=status, content_type="text/html")

    response = problem_for_html(page)(APIRequestFactory().get(path))
    assert (response.status_code, response.headers["Content-Type"]) == (status, kind)
