"""POST /api/enrich/batch-direct: what it accepts, what it answers, and how it fails."""

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, transaction
from django.db.models.functions import Now
from rest_framework.test import APIClient

from alexandria.development.sandbox.server import Sandbox
from enrichment.api import answers
from enrichment.models import Edition, Miss
from quota.exceptions import QuotaUnavailable
from quota.models import Call, Consumer, DailyLedger
from quota.selectors.status import get_status
from quota.services import reservations
from tests.enrichment.listening import on_request
from tests.fixtures import (
    At,
    a_minute_passes,
    balance,
    database_moved,
    known_isbns,
    problem,
    silent_port,
    stop_database_clock,
    unknown_isbns,
)

PATH = "/api/enrich/batch-direct"
KNOWN = known_isbns(3)
UNKNOWN = unknown_isbns(1)
DEADLINE = 5.0  # seconds
TIMEOUT = 2.0
"""Seconds that one attempt to connect, or to lock a row, may wait. The tests count these waits: on a busy machine, the
time that passes says nothing about them."""


def test_when_misses_cannot_be_read_the_answer_says_so_and_keeps_the_rest(
    api: APIClient, sandbox: Sandbox, monkeypatch
) -> None:
    def gone(isbns: list[str]) -> None:
        raise OperationalError("connection is closed")

    monkeypatch.setattr("enrichment.api.books.ask_isbns_again_at", gone)
    response = api.post(PATH, [*KNOWN, *UNKNOWN], format="json")
    assert response.status_code == 200
    assert (response.json()["ask_again_at"], response.json()["enriched"]) == (None, 3)


@pytest.mark.slow
def test_the_answer_counts_every_isbn_and_every_call(api: APIClient, sandbox: Sandbox) -> None:
    given = [*KNOWN, *UNKNOWN, "978-0-00-000000-3", KNOWN[0], int(KNOWN[1])]
    response = api.post(PATH, {"isbns": given, "source": "shelf 7", "refresh": False}, format="json")
    assert response.status_code == 200
    body = response.json()
    assert body.pop("duration_ms") >= 0
    [miss] = Miss.objects.all()
    assert body.pop("ask_again_at") == {miss.pk: (miss.asked_at + timedelta(days=1)).isoformat()[:26] + "Z"}
    assert body == {
        "requested": 7,
        "valid": 4,
        "duplicates": 2,
        "found": 3,
        "enriched": 3,
        "created": 3,
        "updated": 0,
        "already_fresh": 0,
        "just_asked": 0,
        "not_found": 1,
        "failed": 0,
        "invalid": [{"isbn": "978-0-00-000000-3", "reason": "wrong check digit"}],
        "not_found_isbns": UNKNOWN,
        "errors": [],
        "notes": [],
        "api_calls": 1,
        "quota": {
            "daily_limit": 15000,
            "safety_limit": 13000,
            "used": 1,
            "reserved": 0,
            "remaining": 12999,
            "reset_at": "2026-05-06T00:00:00Z",
            "percentage_used": 0,
            "enforcement": "enforce",
            "can_make_calls": True,
            "closed_reason": None,
            "paused_until": None,
            "paused_reason": None,
            "requests": 1,
        },
    }
    assert response.headers["RateLimit"].startswith('"daily";r=12999;t=')
    row = Call.objects.get()
    assert (row.consumer.slug, row.reservation.source) == ("reader", "shelf 7")
    assert balance(sandbox) == (1, 1)


def test_a_bare_list_is_accepted_and_known_isbns_cost_no_call(api: APIClient, sandbox: Sandbox) -> None:
    api.post(PATH, KNOWN, format="json")
    body = api.post(PATH, KNOWN, format="json").json()
    assert (body["already_fresh"], body["api_calls"], body["quota"]["used"]) == (3, 0, 1)
    assert balance(sandbox) == (1, 1)


def test_a_refresh_asks_again(api: APIClient, sandbox: Sandbox) -> None:
    api.post(PATH, KNOWN, format="json")
    a_minute_passes()
    body = api.post(PATH, {"isbns": KNOWN, "refresh": True}, format="json").json()
    assert (body["enriched"], body["created"], body["just_asked"], body["api_calls"]) == (3, 0, 0, 1)
    assert balance(sandbox) == (2, 2)


def test_a_refresh_of_what_was_asked_within_a_minute_costs_nothing_and_says_so(
    api: APIClient, sandbox: Sandbox
) -> None:
    asked = [*KNOWN, *unknown_isbns(1)]
    for refresh in (False, True):
        api.post(PATH, {"isbns": asked, "refresh": refresh}, format="json")
        body = api.post(PATH, {"isbns": asked, "refresh": True}, format="json").json()
        figures = {name: body[name] for name in ("already_fresh", "not_found", "just_asked", "api_calls", "enriched")}
        assert figures == {"already_fresh": 3, "not_found": 1, "just_asked": 4, "api_calls": 0, "enriched": 0}
    assert balance(sandbox) == (1, 1)
    Edition.objects.update(named_at=Now())
    assert api.post(PATH, {"isbns": asked, "refresh": True}, format="json").json()["enriched"] == 3


def test_a_thousand_isbns_are_accepted(api: APIClient, sandbox: Sandbox) -> None:
    assert api.post(PATH, {"isbns": ["x"] * 1000}, format="json").json()["requested"] == 1000


BAD_BODIES = {
    "no isbns": ({}, "isbns"),
    "empty list": ({"isbns": []}, "isbns"),
    "empty bare list": ([], "isbns"),
    "1,001": ({"isbns": ["9780441013593"] * 1001}, "isbns"),
    "many wrong ones": ({"isbns": [[]] * 200_000}, "isbns"),
    "null": ({"isbns": None}, "isbns"),
    "a text": ({"isbns": "9780441013593"}, "isbns"),
    "an object": ({"isbns": {"0": "9780441013593"}}, "isbns"),
    "too many in the values": ({"isbns": [" / ".join(known_isbns(101))] * 9 + ["x"] * 900}, "isbns"),
    "return": ({"isbns": ["9780441013593"], "return": "everything"}, "return"),
    "spreadsheet is a word": ({"isbns": ["9780441013593"], "spreadsheet": "true"}, "spreadsheet"),
    "refresh": ({"isbns": ["9780441013593"], "refresh": "perhaps"}, "refresh"),
    "source too long": ({"isbns": ["9780441013593"], "source": "x" * 101}, "source"),
    "source with NUL": ({"isbns": ["9780441013593"], "source": "\0"}, "source"),
    "source is not a text": ({"isbns": ["9780441013593"], "source": 5}, "source"),
    "source null": ({"isbns": ["9780441013593"], "source": None}, "source"),
    "refresh is a word": ({"isbns": ["9780441013593"], "refresh": "true"}, "refresh"),
    "refresh is a number": ({"isbns": ["9780441013593"], "refresh": 1}, "refresh"),
    "unknown field": ({"isbns": ["9780441013593"], "refersh": True}, "refersh"),
    "unknown field with an invalid name": ({"isbns": ["9780441013593"], "\ud800": 1}, "?"),
    "not an object": ("9780441013593", None),
    "a number": (5, None),
    "a null body": (None, None),
}


@pytest.mark.slow
@pytest.mark.parametrize(("body", "field"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_bad_input_is_refused_with_the_name_of_the_field(
    api_without_key_check: APIClient, body: object, field: str | None
) -> None:
    refused = problem(api_without_key_check.post(PATH, json.dumps(body), content_type="application/json"), 400)
    assert [error["field"] for error in refused["errors"]] == [field]
    if field:
        assert refused["detail"].startswith(f"{field}: ")


def test_a_wrong_choice_is_answered_with_the_choices(api_without_key_check: APIClient) -> None:
    refused = problem(api_without_key_check.post(PATH, {"isbns": KNOWN, "return": "book"}, format="json"), 400)
    assert refused["detail"] == 'return: "book" is not one of "counts", "items", "books".'


@pytest.mark.parametrize("body", ["{", "", '{"isbns": [nan]}', b"\xff", "[" * 100_000], ids=lambda body: body[:9])
def test_malformed_json_is_refused(api_without_key_check: APIClient, body: str | bytes) -> None:
    problem(api_without_key_check.post(PATH, body, content_type="application/json"), 400)


@pytest.mark.parametrize(
    ("status", "send"),
    [
        (405, lambda api: api.get(PATH)),
        (406, lambda api: api.post(PATH, KNOWN, format="json", HTTP_ACCEPT="text/html")),
        (413, lambda api: api.post(PATH, b" " * 4 * 1024 * 1024 + b"[]", content_type="application/json")),
        (413, lambda api: api.post(PATH, b"9780441172719\n" * 300_000, content_type="text/csv")),
        (400, lambda api: api.post(PATH, b"\xd0\xcf\x11\xe0 old Excel", content_type="application/octet-stream")),
        (400, lambda api: api.post(f"{PATH}?refersh=true", b"9780441172719", content_type="text/plain")),
        (415, lambda api: api.post(PATH, "isbns=1", content_type="application/x-www-form-urlencoded")),
    ],
    ids=["method", "answer's type", "length", "file's length", "file's kind", "file's parameter", "body's type"],
)
def test_a_wrong_method_length_or_media_type_is_refused(api_without_key_check: APIClient, status: int, send) -> None:
    problem(send(api_without_key_check), status)


def test_a_wrong_media_type_is_answered_with_those_that_are_right(api_without_key_check: APIClient) -> None:
    api, form = api_without_key_check, "application/x-www-form-urlencoded"  # as curl names a body that has no name
    assert problem(api.post(PATH, "9780441172719", content_type=form), 415)["detail"] == (
        f'Unsupported media type "{form}" in request. Name its type in the header Content-Type: application/json, '
        "text/csv, text/tab-separated-values, text/plain, "
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet or application/octet-stream."
    )
    bulk = problem(api.post("/api/authors/bulk-harvest", "Andy Weir", content_type="text/plain"), 415)
    assert bulk["detail"].endswith("Content-Type: application/json.")
    looked_up = problem(api.post("/api/books/lookup", KNOWN, format="json", headers={"Accept": "text/html"}), 406)
    assert looked_up["detail"].endswith("The answer can be application/json, application/x-ndjson or text/csv.")


def test_without_a_key_not_even_the_body_is_read(api: APIClient, sandbox: Sandbox) -> None:
    api.credentials()
    refused = api.post(PATH, "{", content_type="application/json")
    problem(refused, 401)
    assert refused.headers["WWW-Authenticate"] == "Api-Key"
    assert sandbox.requests == []


def test_an_exhausted_quota_is_a_429_with_the_limit_and_the_time_to_retry(
    api: APIClient, sandbox: Sandbox, settings
) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 10, 4
    reservations.increment(6)
    response = api.post(PATH, KNOWN, format="json")
    body = problem(response, 429)
    assert body["type"] == "urn:alexandria:problem:quota-exhausted"
    assert (body["limit"], body["asked"], body["free"]) == ("safety_limit", 1, 0)
    assert body["retry_at"] == body["quota"]["reset_at"] == "2026-05-06T00:00:00Z"
    assert (body["quota"]["used"], body["quota"]["remaining"], body["quota"]["percentage_used"]) == (6, 0, 100)
    assert (body["api_calls"], body["result"]["failed"], body["result"]["enriched"]) == (0, 3, 0)
    to_midnight = get_status().seconds_to_reset
    assert to_midnight <= int(response.headers["Retry-After"]) < to_midnight + 600
    assert response.headers["RateLimit-Policy"] == '"daily";q=6;w=86400, "pace";q=1000;w=1'
    assert response.headers["RateLimit"].startswith('"daily";r=0;t=')
    assert sandbox.requests == []


def test_there_is_no_retry_after_when_waiting_does_not_help(api: APIClient, sandbox: Sandbox, settings) -> None:
    settings.ISBNDB_BATCH_SIZE = 1
    Consumer.objects.update(cap_per_operation=2)
    response = api.post(PATH, KNOWN, format="json")
    body = problem(response, 429)
    assert (body["limit"], body["asked"], body["free"], body["retry_at"]) == ("cap_per_operation", 3, 2, None)
    assert "Retry-After" not in response.headers
    assert sandbox.requests == []


def test_by_the_isbn_a_list_is_refused_as_a_whole_with_what_it_costs(
    api: APIClient, consumer: Consumer, sandbox: Sandbox, settings
) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    sandbox.set_plan(batch_price="isbn")
    Consumer.objects.filter(pk=consumer.pk).update(daily_budget=3)
    body = problem(api.post(PATH, [*KNOWN, *UNKNOWN], format="json"), 429)
    assert (body["limit"], body["asked"], body["free"]) == ("daily_budget", 4, 3)
    assert sandbox.requests == []
    answer = api.post(PATH, KNOWN, format="json").json()
    assert (answer["api_calls"], answer["quota"]["used"], answer["quota"]["requests"]) == (3, 3, 1)
    assert balance(sandbox) == (3, 3)


def test_when_isbndb_closes_the_day_the_answer_says_so(api: APIClient, sandbox: Sandbox) -> None:
    sandbox.add_fault("daily_limit")
    body = problem(api.post(PATH, KNOWN, format="json"), 429)
    assert (body["limit"], body["api_calls"], body["quota"]["can_make_calls"]) == ("day_closed", 1, False)
    assert "Daily quota exceeded" in body["quota"]["closed_reason"]
    assert balance(sandbox) == (1, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"kind": "status", "status": 500}, 502),
        ({"kind": "status", "status": 403}, 502),
        ({"kind": "garbage"}, 502),
        ({"kind": "latency", "seconds": 60}, 504),
    ],
    ids=["failure", "refused key", "garbage", "no answer"],
)
def test_when_isbndb_fails_after_a_batch_the_answer_has_the_stored_books(
    api: APIClient, sandbox: Sandbox, settings, fault, status: int
) -> None:
    settings.ISBNDB_BATCH_SIZE = 2

    def fail_the_second(number: int) -> None:
        if number == 1 and status == 504:
            settings.ISBNDB_TIMEOUT_SECONDS = 0.5  # for the requests after this one
        if number == 2:
            sandbox.add_fault(**fault)

    on_request(sandbox, fail_the_second)
    response = api.post(PATH, KNOWN, format="json")
    body = problem(response, status)
    assert (body["result"]["enriched"], body["result"]["failed"]) == (2, 1)
    assert [error["isbn"] for error in body["result"]["errors"]] == KNOWN[2:]
    assert Edition.objects.count() == 2
    assert body["api_calls"] == body["result"]["api_calls"] == body["quota"]["used"] == len(sandbox.requests)
    assert response.headers["RateLimit"].startswith(f'"daily";r={body["quota"]["remaining"]};t=')
    assert balance(sandbox) == (body["api_calls"], body["api_calls"])


def test_the_answer_has_the_result_even_if_the_quota_cannot_be_read(
    api: APIClient, sandbox: Sandbox, monkeypatch
) -> None:
    def gone() -> None:
        raise QuotaUnavailable("gone")

    monkeypatch.setattr(answers, "get_status", gone)
    response = api.post(PATH, KNOWN, format="json")
    assert response.status_code == 200
    assert (response.json()["created"], response.json()["api_calls"], response.json()["quota"]) == (3, 1, None)
    assert "RateLimit" not in response.headers


def test_without_postgresql_the_answer_is_503_and_nothing_is_sent(api: APIClient, sandbox: Sandbox) -> None:
    with database_moved(port=1):
        response = api.post(PATH, KNOWN, format="json")
    assert problem(response, 503)["code"] == "database_unavailable"
    assert int(response.headers["Retry-After"]) > 0
    assert sandbox.requests == []


@pytest.mark.slow
def test_when_postgresql_does_not_answer_there_is_a_503_within_five_seconds_and_nothing_is_sent(
    api: APIClient, sandbox: Sandbox, monkeypatch
) -> None:
    assert connection.settings_dict["OPTIONS"]["connect_timeout"] == TIMEOUT
    attempts: list[object] = []
    connect = psycopg.connect

    def counted(*args: Any, **options: Any) -> Any:
        attempts.append(options)
        return connect(*args, **options)

    monkeypatch.setattr(psycopg, "connect", counted)
    with silent_port() as port, database_moved(port):
        response = api.post(PATH, KNOWN, format="json")
    assert 0 < len(attempts) * TIMEOUT < DEADLINE
    problem(response, 503)
    assert sandbox.requests == []


@pytest.mark.slow
def test_when_the_ledger_stays_locked_there_is_a_503_within_five_seconds_and_nothing_is_sent(
    api: APIClient, sandbox: Sandbox, monkeypatch
) -> None:
    reservations.open_ledger()
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            DailyLedger.objects.select_for_update().get()
            locked.set()
            done.wait(timeout=60)
        connection.close()

    timeouts: list[object] = []
    execute = psycopg.Cursor.execute

    def counted(*args: Any, **options: Any) -> Any:
        try:
            return execute(*args, **options)
        except psycopg.errors.LockNotAvailable as error:
            timeouts.append(error)
            raise

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert locked.wait(timeout=30)
        monkeypatch.setattr(psycopg.Cursor, "execute", counted)
        response = api.post(PATH, KNOWN, format="json")
    finally:
        done.set()
        holder.join()
    body = problem(response, 503)
    assert 0 < len(timeouts) * TIMEOUT < DEADLINE
    assert body["code"] == "quota_unavailable"
    assert (body["api_calls"], body["result"]["failed"]) == (0, 3)
    assert int(response.headers["Retry-After"]) > 0
    assert sandbox.requests == []
    assert balance(sandbox) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("table", ["enrichment_edition", "quota_consumerkey", "quota_consumer"])
def test_when_another_session_locks_a_table_there_is_a_503_instead_of_a_wait(
    api: APIClient, sandbox: Sandbox, table: str
) -> None:
    holder = connection.copy()
    holder.inc_thread_sharing()
    holder.set_autocommit(False)
    holder.cursor().execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    gives_up = threading.Timer(30, holder.close)
    gives_up.start()
    try:
        response = api.post(PATH, KNOWN, format="json")
    finally:
        gives_up.cancel()
        gives_up.join()
        holder.close()
        holder.dec_thread_sharing()
    assert problem(response, 503)["code"] in {"database_unavailable", "quota_unavailable"}
    assert sandbox.requests == []


def test_a_consumer_that_is_switched_off_is_refused(api: APIClient, sandbox: Sandbox) -> None:
    Consumer.objects.update(active=False)
    assert "switched off" in problem(api.post(PATH, KNOWN, format="json"), 403)["detail"]
    assert sandbox.requests == []


def test_just_before_midnight_the_answer_says_to_retry_in_seconds(api: APIClient, sandbox: Sandbox) -> None:
    stop_database_clock(datetime(2026, 5, 5, 23, 59, 58, 500_000, tzinfo=UTC))
    response = api.post(PATH, KNOWN, format="json")
    assert problem(response, 429)["limit"] == "midnight"
    assert 0 < int(response.headers["Retry-After"]) <= 4
    assert sandbox.requests == []


def test_a_pause_that_isbndb_asks_for_is_told_with_its_real_length(api: APIClient, sandbox: Sandbox, at: At) -> None:
    too_fast = {"message": "Per minute quota exceeded"}
    sandbox.add_fault("status", status=429, body=too_fast, headers={"Retry-After": "600"})
    answers = [api.post(PATH, {"isbns": known_isbns(1)}, format="json") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [502, 503]
    for answer in answers:
        assert 590 <= int(answer.headers["Retry-After"]) <= 600
        quota = answer.json()["quota"]
        assert not quota["can_make_calls"]
        assert quota["paused_until"].startswith("2026-05-05T12:09:5") or quota["paused_until"] == "2026-05-05T12:10:00Z"
        assert "asks for a pause" in quota["paused_reason"]
    assert "Nothing is sent until" in answers[1].json()["detail"]
    assert len(sandbox.requests) == 1
    at(601)
    sandbox.clear_faults()
    assert api.post(PATH, {"isbns": known_isbns(1)}, format="json").json()["quota"]["paused_until"] is None
