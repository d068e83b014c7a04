"""services.enrich_isbns: what it asks for, stores and spends, and how the counts add up."""

import json
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.db.models import F
from django.db.models.functions import Now
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from alexandria.development.sandbox import answers, catalogue
from alexandria.development.sandbox import api as sandbox_api
from alexandria.development.sandbox.faults import Fault, Faults
from alexandria.development.sandbox.server import Sandbox
from enrichment.exceptions import EnrichmentStopped, IsbndbRefused, IsbndbTimeout
from enrichment.isbn.parsing import to_isbn10
from enrichment.models import Edition, Miss
from enrichment.services.enrich import Enrichment, FailedIsbn, enrich_isbns
from quota.exceptions import ConsumerUnknown, QuotaRefused
from quota.models import Call, Consumer, DailyLedger, Reservation
from quota.selectors.status import get_status
from tests.fixtures import a_minute_passes, balance, known_isbns, unknown_isbns

KNOWN = known_isbns(6)
UNKNOWN = unknown_isbns(3)

pytestmark = pytest.mark.usefixtures("consumer", "sandbox")


class FaultsLater(Faults):
    """Faults that begin after the first `spared` requests."""

    def __init__(self, spared: int) -> None:
        super().__init__()
        self.spared = spared

    def meet(self, path: str) -> tuple[float, Fault | None]:
        self.spared -= 1
        return (0.0, None) if self.spared >= 0 else super().meet(path)


def enrich(isbns: Iterable[str | int], **options) -> Enrichment:
    result = enrich_isbns(isbns, consumer="reader", **options)
    assert_counts_add_up(result)
    return result


def enrich_until_it_stops(isbns: list[str]) -> EnrichmentStopped:
    with pytest.raises(EnrichmentStopped) as caught:
        enrich(isbns)
    assert_counts_add_up(caught.value.result)
    return caught.value


def assert_counts_add_up(result: Enrichment) -> None:
    assert result.valid == result.already_fresh + result.enriched + result.not_found + result.failed
    assert result.created + result.updated <= result.enriched <= result.found


def asked(sandbox: Sandbox) -> list[int | None]:
    """The number of ISBNs in each request."""
    return [request["asked"] for request in sandbox.requests]


def send_books(sandbox: Sandbox, books: list[object]) -> None:
    sandbox.add_fault("garbage", body=json.dumps({"total": len(books), "data": books}), times=1)


def book(isbn13: str, **changes: object) -> dict[str, object]:
    """The book as the sandbox sends it, with changes."""
    known = catalogue.find(isbn13)
    assert known is not None
    return answers.book_json(known) | changes


def test_every_isbn_is_counted_and_stored_or_remembered(sandbox: Sandbox) -> None:
    result = enrich([*KNOWN, *UNKNOWN, "1234", f"ISBN {KNOWN[0]}", int(KNOWN[1])], source="shelf 7")
    assert result == Enrichment(result.given, found=6, enriched=6, created=6, not_found_isbns=UNKNOWN, api_calls=1)
    assert (result.requested, result.valid, result.duplicates) == (12, 9, 2)
    assert [(entry.input, entry.reason) for entry in result.invalid] == [("1234", "wrong length")]
    assert [item.state for item in result.items] == [
        *["enriched"] * 6, *["not_found"] * 3, "invalid", "duplicate", "duplicate"
    ]  # fmt: skip
    assert set(Edition.objects.values_list("isbn13", flat=True)) == set(KNOWN)
    assert set(Miss.objects.values_list("isbn13", flat=True)) == set(UNKNOWN)
    row = Call.objects.get()
    assert (row.consumer.slug, row.operation, row.reservation.source) == ("reader", "batch-direct", "shelf 7")
    assert (row.isbns_asked, row.isbns_found) == (9, 6)
    assert balance(sandbox) == (1, 1)


VALUES = st.sampled_from(
    [
        *known_isbns(12),
        *unknown_isbns(4),
        *(to_isbn10(isbn) or isbn for isbn in known_isbns(4)),
        *(f"ISBN {isbn[:3]}-{isbn[3:]}" for isbn in known_isbns(4)),
        *(int(isbn) for isbn in known_isbns(2)),
        "",
        "x",
        "9780000000000",
        12345,
        KNOWN[0][:-1],
    ]
)


@pytest.mark.slow
def test_the_counts_add_up_for_any_input_and_history(sandbox: Sandbox) -> None:
    @hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(values=st.lists(VALUES, max_size=12), refresh=st.booleans())
    def check(values: list[str | int], refresh: bool) -> None:
        seen, stored = len(sandbox.requests), Edition.objects.count()
        result = enrich(values, refresh=refresh)
        requests = sandbox.requests[seen:]
        assert result.requested == len([value for value in values if value != ""])
        assert result.requested == result.valid + len(result.invalid) + result.duplicates == len(result.items)
        for state in ("already_fresh", "enriched", "not_found"):
            assert sum(item.state == state for item in result.items) == getattr(result, state)
        assert result.api_calls == len(requests)
        assert result.found == sum(request["found"] for request in requests)
        assert result.created == Edition.objects.count() - stored
        assert balance(sandbox) == (len(sandbox.requests), len(sandbox.requests))

    check()


@pytest.mark.parametrize("isbns", [[], ["not one", "978"], [*KNOWN, *UNKNOWN]], ids=["none", "invalid", "known"])
def test_when_no_isbn_needs_a_request_no_call_is_spent_or_reserved(sandbox: Sandbox, isbns: list[str]) -> None:
    if isbns and isbns[0] in KNOWN:
        enrich(isbns)
    spent, reservations = sandbox.spent, Reservation.objects.count()
    result = enrich(isbns)
    assert (result.api_calls, result.found, result.enriched) == (0, 0, 0)
    assert (sandbox.spent, Reservation.objects.count()) == (spent, reservations)


def test_fresh_editions_and_remembered_misses_are_not_asked_for_again(sandbox: Sandbox) -> None:
    enrich([KNOWN[0], UNKNOWN[0]])
    result = enrich([KNOWN[0], UNKNOWN[0], KNOWN[1]])
    assert (result.already_fresh, result.not_found_isbns, result.created) == (1, [UNKNOWN[0]], 1)
    assert asked(sandbox) == [2, 1]


@pytest.mark.parametrize("refresh", [False, True])
def test_a_refresh_asks_for_every_isbn(sandbox: Sandbox, refresh: bool) -> None:
    enrich([*KNOWN, *UNKNOWN])
    a_minute_passes()
    result = enrich([*KNOWN, *UNKNOWN], refresh=refresh)
    assert asked(sandbox) == ([9, 9] if refresh else [9])
    assert (result.already_fresh, result.enriched, result.not_found) == ((0, 6, 3) if refresh else (6, 0, 3))
    assert (result.created, result.updated) == (0, 0)


def test_old_editions_and_old_misses_are_asked_for_again(sandbox: Sandbox, settings) -> None:
    settings.EDITION_FRESH_DAYS = 9
    enrich([*KNOWN[:3], *UNKNOWN])
    Edition.objects.filter(isbn13=KNOWN[0]).update(synced_at=Now() - timedelta(days=9, seconds=1))
    Edition.objects.filter(isbn13=KNOWN[1]).update(synced_at=Now() - timedelta(days=8.9))
    Miss.objects.filter(isbn13=UNKNOWN[0]).update(asked_at=Now() - timedelta(days=1, seconds=1))
    Miss.objects.filter(isbn13=UNKNOWN[1]).update(asked_at=Now() - timedelta(days=0.9))
    result = enrich([*KNOWN[:3], *UNKNOWN])
    assert (result.already_fresh, result.enriched, result.not_found) == (2, 1, 3)
    assert asked(sandbox) == [6, 2]
    assert enrich([*KNOWN[:3], *UNKNOWN]).api_calls == 0


def test_an_unknown_isbn_costs_a_call_after_a_day_then_after_a_week_then_after_the_setting(
    sandbox: Sandbox, settings
) -> None:
    settings.MISS_REMEMBER_DAYS = 30

    def days_later(days: float) -> int:
        Miss.objects.update(asked_at=F("asked_at") - timedelta(days=days))
        return enrich(UNKNOWN[:1]).api_calls

    enrich(UNKNOWN[:1])
    assert [days_later(0.9), days_later(0.1), days_later(6.9), days_later(0.1)] == [0, 1, 0, 1]
    assert [days_later(29.9), days_later(0.1), days_later(29.9), days_later(0.1)] == [0, 1, 0, 1]
    enrich(UNKNOWN[:1], refresh=True)
    assert [days_later(29.9), days_later(0.1)] == [0, 1], "a refresh in between changes nothing"


def test_a_book_that_isbndb_changed_counts_as_updated(sandbox: Sandbox) -> None:
    enrich(KNOWN)
    a_minute_passes()
    send_books(sandbox, [book(KNOWN[0], title="A new title"), *(book(isbn) for isbn in KNOWN[1:])])
    result = enrich(KNOWN, refresh=True)
    assert (result.enriched, result.created, result.updated) == (6, 0, 1)
    assert Edition.objects.get(isbn13=KNOWN[0]).title == "A new title"


def test_an_edition_that_isbndb_dropped_counts_only_as_fresh(sandbox: Sandbox) -> None:
    enrich(KNOWN)
    a_minute_passes()
    send_books(sandbox, [])
    assert enrich(KNOWN, refresh=True).not_found == 6
    assert enrich(KNOWN).already_fresh == 6


def test_a_long_list_is_sent_in_batches_with_one_reservation(sandbox: Sandbox, settings) -> None:
    settings.ISBNDB_BATCH_SIZE = 4
    result = enrich([*KNOWN, *UNKNOWN])
    assert asked(sandbox) == [4, 4, 1]
    assert (result.api_calls, result.created, result.not_found) == (3, 6, 3)
    reservation = Reservation.objects.get()
    assert (reservation.calls, reservation.dispatched, reservation.state) == (3, 3, "settled")
    assert balance(sandbox) == (3, 3)


@pytest.mark.slow
def test_a_thousand_isbns_cost_one_call(sandbox: Sandbox) -> None:
    result = enrich(known_isbns(1000))
    assert (result.created, result.api_calls) == (1000, 1)
    assert balance(sandbox) == (1, 1)


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.slow
def test_a_batch_with_a_too_large_answer_is_halved(sandbox: Sandbox, monkeypatch) -> None:
    monkeypatch.setattr(sandbox_api, "MAX_ANSWER_BYTES", 500_000)
    isbns = known_isbns(900) + UNKNOWN
    result = enrich(isbns)
    assert (result.created, result.not_found_isbns, result.errors) == (900, UNKNOWN, [])
    assert asked(sandbox) == [903, 451, 225, 226, 452, 226, 226]
    assert result.api_calls == 7
    assert Edition.objects.count() == 900
    assert Reservation.objects.count() == 1
    assert balance(sandbox) == (7, 7)


@pytest.mark.slow
def test_when_the_quota_stops_a_halved_batch_the_first_parts_are_stored_and_the_rest_fails(
    sandbox: Sandbox, settings, monkeypatch
) -> None:
    monkeypatch.setattr(sandbox_api, "MAX_ANSWER_BYTES", 500_000)
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 3, 1
    isbns = known_isbns(500)
    stopped = enrich_until_it_stops(isbns)
    assert isinstance(stopped.reason, QuotaRefused)
    assert (stopped.result.enriched, stopped.result.api_calls) == (250, 2)
    assert [error.isbn for error in stopped.result.errors] == isbns[250:]
    assert set(Edition.objects.values_list("isbn13", flat=True)) == set(isbns[:250])
    assert asked(sandbox) == [500, 250]
    assert balance(sandbox) == (2, 2)


def test_a_list_that_needs_more_calls_than_are_free_is_refused_before_a_request(sandbox: Sandbox, settings) -> None:
    settings.ISBNDB_BATCH_SIZE = 2
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 3, 1
    stopped = enrich_until_it_stops(KNOWN)
    assert isinstance(stopped.reason, QuotaRefused)
    assert (stopped.reason.asked, stopped.reason.free) == (3, 2)
    assert (stopped.result.failed, stopped.result.api_calls) == (6, 0)
    assert sandbox.requests == []
    assert (get_status().used, get_status().reserved) == (0, 0)


def test_an_unknown_consumer_spends_nothing(sandbox: Sandbox) -> None:
    with pytest.raises(EnrichmentStopped) as caught:
        enrich_isbns(KNOWN, consumer="nobody")
    assert isinstance(caught.value.reason, ConsumerUnknown)
    assert sandbox.requests == []


@pytest.mark.usefixtures("one_at_a_time")
def test_when_a_batch_fails_the_earlier_batches_are_stored_and_the_later_ones_not_sent(
    sandbox: Sandbox, settings
) -> None:
    settings.ISBNDB_BATCH_SIZE = 2
    sandbox.faults = FaultsLater(spared=1)
    sandbox.add_fault("status", status=400, body="Bad Request")
    stopped = enrich_until_it_stops(KNOWN)
    assert isinstance(stopped.reason, IsbndbRefused)
    result = stopped.result
    assert (result.enriched, result.failed, result.api_calls) == (2, 4, 2)
    assert result.errors == [FailedIsbn(isbn, str(stopped.reason)) for isbn in KNOWN[2:]]
    assert set(Edition.objects.values_list("isbn13", flat=True)) == set(KNOWN[:2])
    assert not Miss.objects.exists()
    assert asked(sandbox)[0] == 2
    assert balance(sandbox) == (2, 2)


@pytest.mark.usefixtures("one_at_a_time")
def test_when_isbndb_closes_the_day_between_batches_the_earlier_result_is_kept(sandbox: Sandbox, settings) -> None:
    settings.ISBNDB_BATCH_SIZE = 2
    sandbox.set_limits(daily_limit=1)
    stopped = enrich_until_it_stops(KNOWN)
    assert isinstance(stopped.reason, QuotaRefused)
    assert stopped.reason.limit == "day_closed"
    assert (stopped.result.enriched, stopped.result.failed, stopped.result.api_calls) == (2, 4, 2)
    assert balance(sandbox) == (2, 2)


def test_the_calls_of_the_result_include_retries(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=500, times=2)
    assert enrich(KNOWN).api_calls == 3
    assert balance(sandbox) == (3, 3)


@pytest.mark.slow
def test_an_isbndb_error_without_a_retry_costs_one_call_and_stores_nothing(sandbox: Sandbox, settings) -> None:
    settings.ISBNDB_TIMEOUT_SECONDS = 0.3
    sandbox.add_fault("latency", seconds=60)
    stopped = enrich_until_it_stops(KNOWN)
    assert isinstance(stopped.reason, IsbndbTimeout)
    assert (stopped.result.failed, stopped.result.api_calls) == (6, 1)
    assert not Edition.objects.exists()
    assert not Miss.objects.exists()


@pytest.mark.slow
def test_one_bad_book_does_not_affect_the_others(sandbox: Sandbox) -> None:
    isbns = known_isbns(1000)
    send_books(sandbox, [*(book(isbn) for isbn in isbns[:999]), {"title": "No number", "isbn13": "97816"}])
    result = enrich(isbns)
    assert (result.created, result.found, result.api_calls) == (999, 999, 1)
    assert result.errors == [FailedIsbn("97816", "no valid ISBN")]
    assert Edition.objects.count() == 999


@pytest.mark.parametrize("bad", [{"title": "No number"}, {"isbn13": "97816"}, "not an object"], ids=str)
def test_when_a_book_is_bad_the_missing_isbns_are_remembered_as_unknown_for_a_day(
    sandbox: Sandbox, bad: object
) -> None:
    send_books(sandbox, [book(KNOWN[0]), bad])
    result = enrich(KNOWN[:3])
    assert (result.created, result.not_found_isbns) == (1, KNOWN[1:3])
    assert enrich(KNOWN[:3]).api_calls == 0
    Miss.objects.update(asked_at=F("asked_at") - timedelta(days=1))
    assert enrich(KNOWN[:3]).created == 2


def test_when_a_book_is_bad_isbns_that_were_often_unknown_are_asked_for_again_after_a_day(sandbox: Sandbox) -> None:
    enrich(UNKNOWN[:2])
    Miss.objects.update(step=3)
    a_minute_passes()
    send_books(sandbox, ["bad"])
    enrich(UNKNOWN[:2], refresh=True)
    Miss.objects.update(asked_at=F("asked_at") - timedelta(days=1))
    assert enrich(UNKNOWN[:2]).api_calls == 1


@pytest.mark.parametrize("days", [0, 1])
def test_a_bad_book_never_makes_a_miss_last_longer_than_the_setting(sandbox: Sandbox, settings, days: int) -> None:
    settings.MISS_REMEMBER_DAYS = days
    send_books(sandbox, [book(KNOWN[0]), "bad"])
    enrich(KNOWN[:3])
    assert enrich(KNOWN[:3]).api_calls == 1 - days


def test_books_outside_the_request_are_neither_stored_nor_counted(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    send_books(sandbox, [book(isbn) for isbn in KNOWN])
    result = enrich(KNOWN[:2])
    assert (result.found, result.enriched, result.created) == (2, 2, 2)
    assert Edition.objects.count() == Call.objects.get().isbns_found == 2
    assert "isbndb.unasked_books" in caplog.text


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_lost_database_stops_the_operation_and_earlier_batches_stay_stored(
    sandbox: Sandbox, settings, monkeypatch, error: type[Exception]
) -> None:
    settings.ISBNDB_BATCH_SIZE = 2

    def gone(isbns: list[str], *, doubtful: bool) -> None:
        if KNOWN[2] not in Edition.objects.values_list("isbn13", flat=True):
            return
        raise error("connection to 10.0.0.7 is closed")

    monkeypatch.setattr("enrichment.services.enrich.remember_misses", gone)
    monkeypatch.setattr("enrichment.books.aside.PATIENCE", timedelta())
    stopped = enrich_until_it_stops(KNOWN)
    assert isinstance(stopped.reason, error)
    assert (stopped.result.enriched, stopped.result.failed, stopped.result.api_calls) == (2, 4, 2)
    assert {failed.error for failed in stopped.result.errors} == {"The database is out of reach."}


def test_a_book_that_the_database_refuses_is_reported_and_asked_for_again(sandbox: Sandbox) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE enrichment_edition ADD CONSTRAINT tmp CHECK (title <> 'Unstorable')")
    try:
        send_books(sandbox, [book(KNOWN[0]), book(KNOWN[1], title="Unstorable")])
        result = enrich(KNOWN[:2])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE enrichment_edition DROP CONSTRAINT tmp")
    assert (result.found, result.created, result.failed, result.not_found) == (2, 1, 1, 0)
    assert [error.isbn for error in result.errors] == [KNOWN[1]]
    assert enrich(KNOWN[:2]).created == 1


@pytest.mark.slow
def test_workers_with_overlapping_lists_neither_deadlock_nor_lose_a_count(sandbox: Sandbox, settings) -> None:
    settings.ISBNDB_BATCH_SIZE = 50
    isbns = [*known_isbns(120), *unknown_isbns(30)]
    lists = [isbns[:100], isbns[::-1], isbns[50:] + isbns[:20], isbns[::2]]
    for number in range(len(lists)):
        Consumer.objects.create(slug=f"worker-{number}")
    start = threading.Barrier(len(lists))

    def work(number: int) -> Enrichment:
        try:
            start.wait(timeout=30)
            return enrich_isbns(lists[number], consumer=f"worker-{number}", refresh=True)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(lists)) as pool:
        results = list(pool.map(work, range(len(lists))))

    for result in results:
        assert_counts_add_up(result)
    assert sum(result.created for result in results) == Edition.objects.count() == 120
    assert Miss.objects.count() == 30
    assert sum(result.enriched for result in results) == sum(request["found"] for request in sandbox.requests) == 120
    assert sum(result.api_calls for result in results) == len(sandbox.requests)
    usage = dict(DailyLedger.objects.get().usages.values_list("consumer__slug", "used"))
    assert usage == {f"worker-{n}": result.api_calls for n, result in enumerate(results) if result.api_calls}
    assert balance(sandbox) == (len(sandbox.requests), len(sandbox.requests))
