"""stale-refresh: sends the oldest books first, in full batches only."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from alexandria.development.sandbox.server import Sandbox
from enrichment.books.storage import remember_misses
from enrichment.models import Edition
from enrichment.services.enrich import enrich_isbns
from harvest.crons import books
from harvest.models import CronState
from harvest.runs import run_cron
from quota.selectors.status import get_status
from quota.services import reservations as quota
from tests.fixtures import balance, known_isbns

BATCH = 10

pytestmark = pytest.mark.usefixtures("defaults")


@pytest.fixture(autouse=True)
def small_batches(settings, consumer, sandbox: Sandbox) -> None:
    settings.ISBNDB_BATCH_SIZE = BATCH
    settings.EDITION_FRESH_DAYS = 90


def store(count: int, *, days_ago: int) -> list[str]:
    """Books with old sync times; the last of the list is the oldest."""
    isbns = known_isbns(count)
    enrich_isbns(isbns, consumer="reader")
    for number, isbn in enumerate(isbns):
        age = timedelta(days=days_ago, minutes=number)
        Edition.objects.filter(pk=isbn).update(synced_at=Now() - age)
    return isbns


@pytest.mark.slow
def test_the_oldest_books_are_refreshed_in_full_batches_and_the_rest_waits(sandbox: Sandbox) -> None:
    isbns = store(25, days_ago=100)
    calls = sandbox.spent
    run = run_cron("stale-refresh")
    assert (run.outcome, run.calls, run.books) == ("succeeded", 2, 20)
    stale = Edition.objects.filter(synced_at__lt=Now() - timedelta(days=90))
    assert set(stale.values_list("pk", flat=True)) == set(isbns[:5]), "the newest of the stale books"
    assert [request["asked"] for request in sandbox.requests[calls:]] == [BATCH, BATCH]
    run = run_cron("stale-refresh")
    assert (run.outcome, run.calls) == ("idle", 0)
    assert balance(sandbox) == (calls + 2, calls + 2)


def test_fresh_books_and_books_that_isbndb_has_dropped_cost_no_call(settings, sandbox: Sandbox) -> None:
    isbns = store(20, days_ago=80)
    assert run_cron("stale-refresh").outcome == "idle"
    settings.EDITION_FRESH_DAYS = 70
    remember_misses(isbns[:11])
    assert run_cron("stale-refresh").outcome == "idle", "nine books are not a full batch"
    settings.MISS_REMEMBER_DAYS = 0
    assert run_cron("stale-refresh").books == 20


@pytest.mark.slow
def test_a_run_sends_no_more_than_its_maximum_and_nothing_below_the_floor(sandbox: Sandbox, monkeypatch) -> None:
    store(40, days_ago=100)
    monkeypatch.setattr(books, "MAX_BATCHES", 1)
    assert run_cron("stale-refresh").calls == 1
    monkeypatch.setattr(books, "MAX_BATCHES", 100)
    sandbox.set_limits(spent=11_998)
    quota.increment(get_status().remaining - 1002)
    run = run_cron("stale-refresh")
    assert (run.outcome, run.calls, run.books) == ("stopped", 2, 20)
    assert run.reason == "floor: This consumer must leave calls free for others."
    assert balance(sandbox) == (12_000, 12_000)


@pytest.mark.slow
def test_a_failed_batch_blocks_no_other_and_comes_last_in_the_next_run(sandbox: Sandbox, monkeypatch) -> None:
    def stale() -> set[str]:
        return set(Edition.objects.filter(synced_at__lt=Now() - timedelta(days=90)).values_list("pk", flat=True))

    def aside() -> object:
        return CronState.objects.get(name="stale-refresh").cursor.get("aside")

    isbns = store(40, days_ago=100)
    sandbox.add_fault("garbage", path="/books", times=1)
    run = run_cron("stale-refresh")
    assert (run.outcome, run.calls, run.books) == ("failed", 4, 30)
    assert run.reason == "IsbndbUndecodable: ISBNdb's answer could not be read."
    assert (stale(), aside()) == (set(isbns[30:]), 10)

    Edition.objects.filter(pk__in=isbns[:10]).update(synced_at=Now() - timedelta(days=91))
    monkeypatch.setattr(books, "MAX_BATCHES", 1)
    assert run_cron("stale-refresh").outcome == "succeeded"
    assert (stale(), aside()) == (set(isbns[30:]), 10)
    assert run_cron("stale-refresh").outcome == "succeeded"
    assert (stale(), aside()) == (set(), None)


@pytest.mark.slow
def test_after_three_failures_in_a_row_the_run_sends_no_more(sandbox: Sandbox) -> None:
    store(50, days_ago=100)
    sandbox.add_fault("garbage", path="/books")
    run = run_cron("stale-refresh")
    assert (run.outcome, run.calls, run.books) == ("failed", 3, 0)
    assert run.reason.startswith("FailedTooOften: 3 failures in a row; IsbndbUndecodable: ")
    assert run.reason.endswith("(3 times)")
    sandbox.clear_faults()
    sandbox.add_fault("drip", seconds=0, path="/books", times=2)  # the two that were not tried
    sandbox.add_fault("garbage", path="/books", times=1)
    sandbox.add_fault("daily_limit", path="/books")
    run = run_cron("stale-refresh")
    assert (run.outcome, run.calls, run.books) == ("stopped", 4, 20)
    assert run.reason.startswith("day_closed: ")
    assert "IsbndbUndecodable" in run.reason
    assert run.cursor == {"aside": 30}
