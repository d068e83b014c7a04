"""POST /api/authors/enrich-bibliography: what it accepts, what it answers, how it fails, and how it continues."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pytest
from django import conf
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from rest_framework.test import APIClient

from alexandria.development.sandbox import catalogue, listings
from alexandria.development.sandbox.server import Sandbox
from enrichment.models import AuthorMiss, Edition
from quota.models import Call, Consumer, DailyLedger, Reservation
from quota.selectors.status import check_ledger, get_status
from quota.services import corrections, reservations
from tests.enrichment.listening import isbns_of, on_request, pages_asked, stored, to_the_next_day
from tests.fixtures import (
    NOON,
    SetClock,
    a_minute_passes,
    balance,
    database_moved,
    known_isbns,
    problem,
    stop_database_clock,
)

PATH = "/api/authors/enrich-bibliography"
LARGE, NO_TOTAL, HEAVY = catalogue.MORE_THAN_1000, catalogue.FULL_PAGES_WITHOUT_TOTAL, catalogue.PAGES_OVER_6_MB


def ask(api: APIClient, author: str, **fields: object) -> dict:
    response = api.post(PATH, {"author_name": author, **fields}, format="json")
    assert response.status_code == 200, response.content
    return response.json()


def figures_of(body: dict) -> dict[str, int]:
    """What became of the books, where that is any, after checking that the figures explain each other."""
    kinds = ("new", "changed", "unchanged", "already_fresh", "failed")
    assert body["books_found"] == sum(body[kind] for kind in kinds)
    return {name: body[name] for name in (*kinds, "enriched", "already_existed") if body[name]}


def all_isbns(author: str) -> set[str]:
    """The ISBNs of the author's books in the sandbox."""
    return isbns_of(listings.of_author(author))


@pytest.mark.slow
def test_the_answer_counts_every_book_page_and_call(api: APIClient, sandbox: Sandbox) -> None:
    reserved: list[int] = []
    on_request(sandbox, lambda _: reserved.append(get_status().reserved))
    response = api.post(PATH, {"author_name": f" {LARGE} ", "source": "shelf 7"}, format="json")
    assert response.status_code == 200
    body = response.json()
    assert body.pop("duration_ms") >= 0
    assert body.pop("quota") == {
        "daily_limit": 15000,
        "safety_limit": 13000,
        "used": 2,
        "reserved": 0,
        "remaining": 12998,
        "reset_at": "2026-05-06T00:00:00Z",
        "percentage_used": 0,
        "enforcement": "enforce",
        "can_make_calls": True,
        "closed_reason": None,
        "paused_until": None,
        "paused_reason": None,
        "requests": 2,
    }
    figures = {"books_found": 1432, "new": 1432, "changed": 0, "unchanged": 0, "already_fresh": 0, "failed": 0}
    figures |= {"already_existed": 0, "enriched": 1432, "pages_fetched": 2}
    ending: dict[str, object] = {"complete": True, "stopped_reason": None, "next_page": None, "errors": []}
    ending["listed_at"] = None
    assert body == {"author": LARGE, "api_calls": 2, **figures, **ending}
    assert response.headers["RateLimit"].startswith('"daily";r=12998;t=')
    assert stored() == all_isbns(LARGE)
    assert {(call.consumer.slug, call.operation, call.reservation.source) for call in Call.objects.all()} == {
        ("reader", "bibliography", "shelf 7")
    }
    # 10 calls were reserved; 9 were left during the first page, and none during the second.
    assert reserved == [9, 0]
    assert pages_asked(sandbox) == [(1, 1000), (2, 1000)]

    a_minute_passes()
    assert figures_of(ask(api, LARGE, refresh=True)) == {"already_fresh": 1432, "already_existed": 1432}
    a_minute_passes()
    isbns = sorted(stored())
    Edition.objects.filter(isbn13__in=isbns[:7]).update(synced_at=Now() - timedelta(days=1000))
    Edition.objects.filter(isbn13__in=isbns[:3]).update(content_hash="0" * 32)
    Edition.objects.filter(isbn13=isbns[8]).delete()
    assert figures_of(ask(api, LARGE, refresh=True)) == {
        "new": 1,
        "changed": 3,
        "unchanged": 4,
        "already_fresh": 1424,
        "enriched": 8,
        "already_existed": 1431,
    }
    every = {"unchanged": 1432, "enriched": 1432, "already_existed": 1432}
    a_minute_passes()
    assert figures_of(ask(api, LARGE, skip_existing=False)) == every
    assert not Edition.objects.filter(synced_at__lt=Now() - timedelta(days=1)).exists()
    assert balance(sandbox) == (8, 8)


@pytest.mark.slow
def test_without_a_total_a_full_page_means_that_two_others_can_follow(api: APIClient, sandbox: Sandbox) -> None:
    reserved: list[int] = []
    on_request(sandbox, lambda _: reserved.append(get_status().reserved))
    sandbox.add_fault("latency", seconds=0.5, path="/author")  # so that the pages can be under way together
    body = ask(api, NO_TOTAL, max_pages=5)
    assert (body["books_found"], body["pages_fetched"], body["api_calls"], body["complete"]) == (2000, 4, 4, True)
    assert sorted(pages_asked(sandbox)) == [(page, 1000) for page in (1, 2, 3, 4)]
    assert pages_asked(sandbox)[:2] == [(1, 1000), (2, 1000)], "after one full page, one other"
    assert reserved[:2] == [4, 3]
    assert stored() == all_isbns(NO_TOTAL)

    cut = ask(api, NO_TOTAL, max_pages=1, start_page=2)
    assert (cut["complete"], cut["stopped_reason"], cut["next_page"]) == (False, "max_pages", 3)
    assert pages_asked(sandbox)[4:] == [(2, 1000)]
    assert balance(sandbox) == (5, 5)


@pytest.mark.slow
@pytest.mark.usefixtures("plenty_left")
def test_a_404_after_the_last_page_does_not_make_the_author_unknown(api: APIClient, sandbox: Sandbox) -> None:
    on_request(sandbox, lambda number: sandbox.add_fault("status", status=404, times=1) if number == 3 else None)
    sandbox.add_fault("latency", seconds=0.5, path="/author")
    body = ask(api, NO_TOTAL)
    assert (body["books_found"], body["api_calls"], body["complete"]) == (2000, 4, True)
    assert not AuthorMiss.objects.exists()
    assert balance(sandbox) == (4, 4)


@pytest.mark.slow
@pytest.mark.usefixtures("one_at_a_time")
def test_a_page_that_brings_nothing_new_ends_the_listing_whatever_its_total_says(
    api: APIClient, sandbox: Sandbox
) -> None:
    books = [{"isbn13": isbn, "title": "The same"} for isbn in known_isbns(1000)]
    sandbox.add_fault(
        "garbage", path="/author", body={"total": 10_000, "books": [*books, {"isbn13": "1", "title": "?"}]}
    )
    body = ask(api, LARGE)
    assert (body["books_found"], body["new"], body["failed"], len(body["errors"])) == (1001, 1000, 1, 1)
    assert (body["pages_fetched"], body["api_calls"], body["complete"], body["next_page"]) == (2, 2, True, None)
    assert balance(sandbox) == (2, 2)


@pytest.mark.slow
@pytest.mark.usefixtures("one_at_a_time")
def test_a_too_large_page_is_halved(api: APIClient, sandbox: Sandbox) -> None:
    body = ask(api, HEAVY)
    assert (body["books_found"], body["pages_fetched"], body["api_calls"], body["complete"]) == (1502, 3, 4, True)
    assert pages_asked(sandbox) == [(1, 1000), (1, 500), (2, 500), (2, 1000)]
    assert stored() == all_isbns(HEAVY)

    a_minute_passes()
    cut = ask(api, HEAVY, max_pages=1, refresh=True)
    assert (cut["books_found"], cut["stopped_reason"], cut["next_page"]) == (1000, "max_pages", 2)
    rest = ask(api, HEAVY, start_page=cut["next_page"])
    assert (rest["books_found"], rest["complete"]) == (502, True)
    assert balance(sandbox) == (8, 8)


@pytest.mark.parametrize(("limit", "pages", "next_page"), [(4, 3, None), (3, 2, 2), (2, 1, 1)])
@pytest.mark.slow
def test_reserved_calls_are_used_even_if_halves_may_need_more(
    api: APIClient, sandbox: Sandbox, settings, limit: int, pages: int, next_page: int | None
) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = limit + 1, 1
    body = ask(api, HEAVY, max_pages=2)
    assert (body["pages_fetched"], body["api_calls"], body["next_page"]) == (pages, limit, next_page)
    assert body["stopped_reason"] == ("safety_limit" if next_page else None)
    assert balance(sandbox) == (limit, limit)


@pytest.mark.slow
def test_a_retry_takes_a_reserved_call_and_the_quota_stops_the_rest(api: APIClient, sandbox: Sandbox) -> None:
    Consumer.objects.update(daily_budget=2)
    sandbox.add_fault("status", status=503, times=1)
    body = ask(api, LARGE, max_pages=2)
    assert (body["pages_fetched"], body["api_calls"], body["stopped_reason"]) == (1, 2, "daily_budget")
    assert (body["complete"], body["next_page"]) == (False, 2)
    assert balance(sandbox) == (2, 2)


@pytest.mark.slow
def test_only_the_first_10_000_books_of_an_author_can_be_fetched(api: APIClient, sandbox: Sandbox) -> None:
    body = ask(api, catalogue.MORE_THAN_10000, start_page=10)
    assert (body["books_found"], body["api_calls"]) == (1000, 1)
    assert (body["complete"], body["stopped_reason"], body["next_page"]) == (False, "isbndb_ceiling", None)
    assert balance(sandbox) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, {"kind": "garbage", "body": {"books": [], "total": 0}, "times": 2}])
@pytest.mark.usefixtures("plenty_left")
def test_an_unknown_author_costs_one_call_and_is_remembered(
    api: APIClient, sandbox: Sandbox, settings, fault: dict | None
) -> None:
    author = "Somebody New" if fault else catalogue.UNKNOWN_AUTHOR
    if fault:
        sandbox.add_fault(**fault)
    body = ask(api, author)
    assert (body["books_found"], body["api_calls"], body["complete"], body["errors"]) == (0, 1, True, [])
    again = ask(api, author)
    assert (again["books_found"], again["api_calls"], again["complete"]) == (0, 0, True)
    assert ask(api, author, skip_existing=False)["api_calls"] == 1
    settings.MISS_REMEMBER_DAYS = 0
    assert ask(api, author)["api_calls"] == 1
    assert balance(sandbox) == (3, 3)
    assert AuthorMiss.objects.exists() == (fault is None)  # by now ISBNdb knows the new author


@pytest.mark.slow
def test_an_unknown_spelling_of_a_name_does_not_hide_another(api: APIClient, sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=404, times=1)
    assert ask(api, "Christie, Agatha")["books_found"] == 0
    assert AuthorMiss.objects.get().name == "Christie, Agatha"
    assert ask(api, "Agatha Christie")["books_found"] > 0
    assert ask(api, "Christie, Agatha")["api_calls"] == 0, "this spelling stays unknown"
    assert AuthorMiss.objects.count() == 1


@pytest.mark.slow
@pytest.mark.usefixtures("plenty_left")
def test_an_unknown_author_is_asked_for_again_after_a_day_and_then_after_a_week(
    api: APIClient, sandbox: Sandbox
) -> None:
    def days_later(days: float) -> int:
        AuthorMiss.objects.update(asked_at=F("asked_at") - timedelta(days=days))
        calls: int = ask(api, catalogue.UNKNOWN_AUTHOR)["api_calls"]
        return calls

    assert [days_later(0), days_later(0.9), days_later(0.1), days_later(6.9), days_later(0.1)] == [1, 0, 1, 0, 1]


def test_special_characters_of_a_name_reach_isbndb_unchanged(api: APIClient, sandbox: Sandbox) -> None:
    name = "../Åsa 100% & Sons? #1; “x” / 村上"
    assert ask(api, name)["author"] == name
    assert unquote(sandbox.requests[0]["path"]) == f"/author/{name}"


BAD_BODIES: dict[str, tuple[object, str | None]] = {
    "no name": ({}, "author_name"),
    "empty name": ({"author_name": " "}, "author_name"),
    "long name": ({"author_name": "x" * 151}, "author_name"),
    "dots for a name": ({"author_name": ".."}, "author_name"),
    "NUL": ({"author_name": "x\0"}, "author_name"),
    "half a character": ({"author_name": "x\ud800"}, "author_name"),
    "a list": ({"author_name": ["x"]}, "author_name"),
    "no pages": ({"author_name": "x", "max_pages": 0}, "max_pages"),
    "many pages": ({"author_name": "x", "max_pages": 11}, "max_pages"),
    "pages in words": ({"author_name": "x", "max_pages": "all"}, "max_pages"),
    "page 0": ({"author_name": "x", "start_page": 0}, "start_page"),
    "page 11": ({"author_name": "x", "start_page": 11}, "start_page"),
    "perhaps": ({"author_name": "x", "skip_existing": "perhaps"}, "skip_existing"),
    "long source": ({"author_name": "x", "source": "x" * 101}, "source"),
    "no object": (["x"], None),
}


@pytest.mark.slow
@pytest.mark.parametrize(("body", "field"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_bad_input_is_refused_with_the_name_of_the_field(
    api_without_key_check: APIClient, body: object, field: str | None
) -> None:
    refused = problem(api_without_key_check.post(PATH, json.dumps(body), content_type="application/json"), 400)
    assert [error["field"] for error in refused["errors"]] == [field]


@pytest.mark.slow
def test_a_request_that_needs_more_calls_than_are_free_is_not_started(
    api: APIClient, sandbox: Sandbox, settings
) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 20, 1
    reservations.increment(10)
    response = api.post(PATH, {"author_name": LARGE}, format="json")
    body = problem(response, 429)
    assert (body["limit"], body["asked"], body["free"], body["api_calls"]) == ("safety_limit", 10, 9, 0)
    assert (body["result"]["author"], body["result"]["next_page"], body["result"]["books_found"]) == (LARGE, 1, 0)
    assert int(response.headers["Retry-After"]) > 0
    assert response.headers["RateLimit"].startswith('"daily";r=9;t=')
    assert sandbox.requests == []
    assert ask(api, LARGE, max_pages=9)["complete"]
    assert balance(sandbox) == (2, 12)


def closed_by_isbndb(sandbox: Sandbox) -> None:
    sandbox.add_fault("daily_limit", times=1)


def spent_elsewhere(sandbox: Sandbox) -> None:
    reservations.increment(13_000)
    sandbox.set_limits(spent=13_001)


def switched_off(sandbox: Sandbox) -> None:
    Consumer.objects.filter(slug="reader").update(active=False)


def midnight_is_near(sandbox: Sandbox) -> None:
    stop_database_clock(datetime(2026, 5, 5, 23, 59, 58, 500_000, tzinfo=UTC))


def released_by_staff(sandbox: Sandbox) -> None:
    reservations.settle(Reservation.objects.get(state="open").pk)


def limit_lowered(sandbox: Sandbox) -> None:
    conf.settings.QUOTA_DAILY_LIMIT, conf.settings.QUOTA_SAFETY_BUFFER = 2, 1
    corrections.apply_limits()


ENDINGS: dict[str, tuple[int, Callable[[Sandbox], None], str]] = {
    "closed by ISBNdb": (2, closed_by_isbndb, "day_closed"),
    "spent elsewhere": (1, spent_elsewhere, "safety_limit"),
    "limit lowered": (1, limit_lowered, "safety_limit"),
    "switched off": (1, switched_off, "switched_off"),
    "released by staff": (1, released_by_staff, "released"),
    "midnight": (1, to_the_next_day, "midnight"),
}


@pytest.mark.parametrize(("at", "end", "reason"), ENDINGS.values(), ids=ENDINGS)
@pytest.mark.slow
def test_when_the_quota_stops_it_the_next_run_continues_exactly_there(
    api: APIClient, sandbox: Sandbox, settings, at: int, end: Callable[[Sandbox], None], reason: str
) -> None:
    # `end` can change these settings. Because they are set here, pytest restores them after the test.
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 15_000, 2_000
    on_request(sandbox, lambda number: end(sandbox) if number == at else None)
    body = ask(api, NO_TOTAL)
    assert (body["complete"], body["stopped_reason"], body["next_page"]) == (False, reason, 2)
    assert (body["books_found"], body["enriched"], body["pages_fetched"]) == (1000, 1000, 1)
    assert body["api_calls"] == at
    assert check_ledger(NOON.date()) == []
    sent, used = balance(sandbox)
    assert sent == used

    to_the_next_day(sandbox)
    Consumer.objects.update(active=True)
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 15_000, 2_000
    rest = ask(api, NO_TOTAL, start_page=body["next_page"])
    assert (rest["books_found"], rest["already_existed"], rest["complete"]) == (1000, 0, True)
    assert stored() == all_isbns(NO_TOTAL)
    answered = [page for page, request in zip(pages_asked(sandbox), sandbox.requests, strict=True) if request["found"]]
    assert len(answered) == len(set(answered))
    assert balance(sandbox) == (2, 2)


@pytest.mark.slow
def test_just_before_midnight_it_stops_because_nothing_is_sent_then(api: APIClient, sandbox: Sandbox) -> None:
    on_request(sandbox, lambda number: midnight_is_near(sandbox) if number == 1 else None)
    body = ask(api, LARGE)
    assert (body["stopped_reason"], body["next_page"], body["api_calls"]) == ("midnight", 2, 1)
    refused = problem(api.post(PATH, {"author_name": LARGE, "start_page": 2}, format="json"), 429)
    assert (refused["limit"], refused["api_calls"]) == ("midnight", 0)


def test_when_isbndb_closes_the_day_at_the_first_call_the_answer_is_429(api: APIClient, sandbox: Sandbox) -> None:
    closed_by_isbndb(sandbox)
    body = problem(api.post(PATH, {"author_name": LARGE}, format="json"), 429)
    assert (body["limit"], body["api_calls"], body["result"]["next_page"]) == ("day_closed", 1, 1)
    assert balance(sandbox) == (1, 1)


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ({"kind": "status", "status": 503}, 502, "isbndb_failed"),
        ({"kind": "status", "status": 401}, 502, "isbndb_failed"),
        ({"kind": "status", "status": 500}, 502, "isbndb_failed"),
        ({"kind": "latency", "seconds": 60}, 504, "isbndb_timeout"),
    ],
    ids=["failure", "refused key", "failure for any size", "no answer"],
)
@pytest.mark.slow
def test_when_isbndb_fails_after_a_page_the_answer_has_the_stored_books(
    api: APIClient, sandbox: Sandbox, settings, fault: dict, status: int, reason: str
) -> None:
    def fail_the_second(number: int) -> None:
        if number == 1 and reason == "isbndb_timeout":
            settings.ISBNDB_TIMEOUT_SECONDS = 2  # for the requests after this one
        if number == 2:
            sandbox.add_fault(**fault)

    on_request(sandbox, fail_the_second)
    response = api.post(PATH, {"author_name": LARGE}, format="json")
    body = problem(response, status)
    result = body["result"]
    assert (result["books_found"], result["stopped_reason"], result["next_page"]) == (1000, reason, 2)
    assert Edition.objects.count() == 1000
    assert body["api_calls"] == result["api_calls"] == body["quota"]["used"] == len(sandbox.requests)
    assert response.headers["RateLimit"].startswith(f'"daily";r={body["quota"]["remaining"]};t=')
    assert balance(sandbox) == (body["api_calls"], body["api_calls"])


@pytest.mark.slow
def test_when_the_ledger_gets_locked_the_503_has_the_stored_books(
    api: APIClient, sandbox: Sandbox, set_clock: SetClock
) -> None:
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            DailyLedger.objects.select_for_update().get()
            locked.set()
            done.wait(timeout=60)
        connection.close()

    holder = threading.Thread(target=hold)

    def lock(number: int) -> None:
        holder.start()
        assert locked.wait(timeout=30)

    on_request(sandbox, lock)
    try:
        response = api.post(PATH, {"author_name": LARGE}, format="json")
    finally:
        done.set()
        holder.join()
    body = problem(response, 503)
    assert (body["code"], body["api_calls"]) == ("quota_unavailable", 1)
    assert (body["result"]["stopped_reason"], body["result"]["next_page"]) == ("quota_unavailable", 2)
    assert body["result"]["enriched"] == Edition.objects.count() == 1000
    set_clock(NOON + timedelta(minutes=5))  # calls that could not be released come back when the lease expires
    reservations.expire()
    assert balance(sandbox) == (1, 1)


def test_without_a_key_or_a_database_nothing_is_sent(api: APIClient, sandbox: Sandbox) -> None:
    with database_moved(port=1):
        response = api.post(PATH, {"author_name": LARGE}, format="json")
    assert problem(response, 503)["code"] == "database_unavailable"
    Consumer.objects.update(active=False)
    problem(api.post(PATH, {"author_name": LARGE}, format="json"), 403)
    api.credentials()
    problem(api.post(PATH, {"author_name": LARGE}, format="json"), 401)
    assert sandbox.requests == []
