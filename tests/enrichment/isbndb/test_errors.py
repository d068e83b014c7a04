"""Every error under /isbndb/ is JSON in ISBNdb's form, with its codes; and the caller's limits hold."""

from typing import Any

import pytest
from django.test import Client

from alexandria.development.sandbox.catalogue import PAGES_OVER_6_MB
from alexandria.development.sandbox.server import Sandbox
from quota.models import Consumer
from tests.fixtures import At, balance, database_moved, known_isbns

KNOWN = known_isbns(3)
BOOK = f"/isbndb/book/{KNOWN[0]}"


def error(response: Any, status: int, message: str) -> str:
    """What an error says to people."""
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/json"
    body = response.json()
    assert (set(body), body["message"]) == ({"message", "error_message"}, message)
    assert body["error_message"].startswith(message)
    return str(body["error_message"])


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "KEY"},
        {"Authorization": "Bearer KEY"},
        {"Authorization": "Api-Key KEY"},
        {"X-API-Key": "KEY", "Authorization": "Basic cHJveHk6cHJveHk="},
    ],
)
def test_a_key_is_taken_in_every_form_that_programs_send(key: str, headers: dict[str, str]) -> None:
    response = Client().get("/isbndb/key", headers={name: text.replace("KEY", key) for name, text in headers.items()})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "wrong"}, {"X-API-Key": "a.b"}, {"Authorization": "Basic a b"}]
)
def test_without_a_right_key_nothing_is_served(sandbox: Sandbox, key: str, headers: dict[str, str]) -> None:
    for path in (BOOK, "/isbndb/key", "/isbndb/stats", "/isbndb/nope"):
        response = Client().get(path, headers=headers)
        error(response, 401, "Unauthorized")
        assert response.headers["WWW-Authenticate"] == "Api-Key"
    assert sandbox.requests == []


def test_paths_that_are_not_served_are_not_found_and_nothing_is_sent(isbndb: Client, sandbox: Sandbox) -> None:
    paths = ["", "authors/x", "publishers/x", "subjects/x", "search/authors", "search/publishers", "search/subjects"]
    for path in [*paths, "feeds/books/updates", "book/", "books/", "author/", "key/", "nope", "v2/book/1", "%0a"]:
        error(isbndb.get(f"/isbndb/{path}"), 404, "Not Found")
        error(isbndb.post(f"/isbndb/{path}"), 404, "Not Found")
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("head", BOOK), ("options", BOOK), ("post", BOOK), ("delete", BOOK), ("get", "/isbndb/books")],
)
def test_other_methods_are_refused_and_nothing_is_sent(
    isbndb: Client, sandbox: Sandbox, method: str, path: str
) -> None:
    response = getattr(isbndb, method)(path)
    assert (response.status_code, response.headers["Allow"]) == (405, "POST" if path.endswith("books") else "GET")
    assert sandbox.requests == []


def test_json_is_answered_whatever_a_program_accepts(isbndb: Client, sandbox: Sandbox) -> None:
    response = isbndb.get("/isbndb/key", headers={"Accept": "text/html"})
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")


def test_a_used_up_budget_is_isbndbs_daily_quota_and_the_store_still_answers(
    isbndb: Client, sandbox: Sandbox, consumer: Consumer, at: At
) -> None:
    Consumer.objects.update(daily_budget=1)
    assert isbndb.get(BOOK).status_code == 200
    at(3600)
    for response in (
        isbndb.get(f"/isbndb/book/{KNOWN[1]}"),
        isbndb.get("/isbndb/author/Andy%20Weir"),
        isbndb.post("/isbndb/books", {"isbns": KNOWN}, content_type="application/json"),
    ):
        said = error(response, 429, "Daily quota exceeded")
        assert "1 call requested, 0 free. This consumer's daily budget is used or reserved." in said
        assert response.headers["Retry-After"] == str(11 * 3600)
        assert response.headers["X-Api-Calls"] == "0"
        assert response.headers["RateLimit"] == '"daily";r=12999;t=39600'
        assert "X-Cache" not in response.headers
    assert isbndb.get(BOOK).headers["X-Cache"] == "hit"
    assert balance(sandbox) == (1, 1)


@pytest.mark.parametrize("path", [BOOK, "/isbndb/author/Andy%20Weir"])
def test_the_end_of_isbndbs_day_is_passed_on_and_the_next_request_is_not_sent(
    isbndb: Client, sandbox: Sandbox, path: str
) -> None:
    sandbox.add_fault("daily_limit")
    for calls in ("1", "0"):
        response = isbndb.get(path)
        error(response, 429, "Daily quota exceeded")
        assert response.headers["X-Api-Calls"] == calls
        assert "Retry-After" in response.headers
    assert balance(sandbox) == (1, 1)


def test_a_cap_per_operation_names_what_is_free_and_no_time_to_retry(
    isbndb: Client, sandbox: Sandbox, settings
) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    Consumer.objects.update(cap_per_operation=2)
    response = isbndb.post("/isbndb/books", {"isbns": KNOWN}, content_type="application/json")
    assert "3 calls requested, 2 free" in error(response, 429, "Daily quota exceeded")
    assert "Retry-After" not in response.headers
    assert sandbox.requests == []


def test_too_many_requests_a_minute_are_isbndbs_pace(isbndb: Client, settings) -> None:
    settings.API_REQUESTS_PER_MINUTE = 1
    responses = [isbndb.get("/isbndb/key") for _ in range(3)]  # a minute can end between two of them
    error(responses[-1], 429, "Per minute quota exceeded")
    assert 1 <= int(responses[-1].headers["Retry-After"]) <= 60


def test_a_consumer_that_is_switched_off_is_forbidden(isbndb: Client, sandbox: Sandbox) -> None:
    Consumer.objects.update(active=False)
    assert "switched off" in error(isbndb.get(BOOK), 403, "Forbidden")
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("fault", "status", "message", "calls"),
    [
        ({"kind": "status", "status": 503}, 503, "Service Unavailable", "3"),
        ({"kind": "status", "status": 401}, 502, "Bad Gateway", "1"),
        ({"kind": "garbage"}, 502, "Bad Gateway", "1"),
        ({"kind": "drop"}, 503, "Service Unavailable", "3"),
    ],
)
@pytest.mark.parametrize("path", [BOOK, "/isbndb/author/Andy%20Weir"])
def test_failures_of_isbndb_keep_their_form_and_say_what_they_cost(
    isbndb: Client,
    sandbox: Sandbox,
    fault: dict[str, Any],
    status: int,
    message: str,
    calls: str,
    path: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox.add_fault(**fault)
    response = isbndb.get(path)
    [line] = [record for record in caplog.records if record.name == "django.request"]
    assert (line.levelname, line.exc_info) == ("ERROR", None)
    assert "ISBNdb" in line.getMessage()
    assert sandbox.key not in error(response, status, message)
    assert response.headers["X-Api-Calls"] == calls
    assert ("Retry-After" in response.headers) is (status == 503)


@pytest.mark.parametrize(("path", "status"), [("/isbndb/author/Andy%20Weir", 400), (BOOK, 502)])
def test_a_parameter_that_isbndb_refuses_is_the_callers_and_a_batch_is_ours(
    isbndb: Client, sandbox: Sandbox, path: str, status: int
) -> None:
    sandbox.add_fault("status", status=422)
    response = isbndb.get(path)
    assert "ISBNdb refused the request with status 422." in response.json()["error_message"]
    assert (response.status_code, response.headers["X-Api-Calls"]) == (status, "1")


def test_a_late_answer_of_isbndb_is_a_timeout(isbndb: Client, sandbox: Sandbox, settings) -> None:
    settings.ISBNDB_TIMEOUT_SECONDS = 0.3
    sandbox.add_fault("latency", seconds=60, times=1)
    error(isbndb.get(BOOK), 504, "Gateway Timeout")


@pytest.mark.slow
def test_a_page_over_6_mb_is_isbndbs_500_so_that_the_program_asks_for_less(isbndb: Client, sandbox: Sandbox) -> None:
    response = isbndb.get(f"/isbndb/author/{PAGES_OVER_6_MB}?pageSize=1000")
    error(response, 500, "Internal server error")
    assert response.headers["X-Api-Calls"] == "1"


def test_a_lost_database_is_a_503_and_nothing_is_sent(isbndb: Client, sandbox: Sandbox) -> None:
    with database_moved(port=1):
        response = isbndb.get(BOOK)
    assert "out of reach" in error(response, 503, "Service Unavailable")
    assert response.headers["Retry-After"] == "5"
    assert sandbox.requests == []


def test_an_unexpected_error_is_json_and_hides_its_reason_but_not_from_the_log(
    isbndb: Client, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr("enrichment.api.isbndb.views.get_book", fail)
    assert "a mistake" not in error(isbndb.get(BOOK), 500, "Internal Server Error")
    [line] = [record for record in caplog.records if record.name == "django.request"]
    assert "ZeroDivisionError: a mistake" in str(line.exc_text)


def test_a_host_that_is_not_allowed_is_json_too(isbndb: Client) -> None:
    error(isbndb.get("/isbndb/key", headers={"Host": "evil.example"}), 400, "Bad Request")
