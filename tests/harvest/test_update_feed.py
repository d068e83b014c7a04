"""update-feed: refreshes the known ISBNs that ISBNdb's feed of updates lists."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from alexandria.development.sandbox import feed
from alexandria.development.sandbox.server import Sandbox
from enrichment.books.storage import remember_misses
from enrichment.models import Edition, FeedFollowing
from enrichment.selectors.books import fresh_isbns, named_isbns, stale_isbns
from enrichment.services import feed as feed_service
from enrichment.services.enrich import Batches, enrich_isbns
from harvest.crons import batches
from harvest.crons import feed as feed_cron
from harvest.models import CronState
from harvest.runs import forget_cursor, run_cron
from quota.models import Consumer, DailyLedger, Switches
from quota.selectors.status import get_status
from quota.services import reservations as quota
from tests.fixtures import NOON, SetClock, balance, known_isbns, unknown_isbns

BATCH = 100
WEEK = NOON.date() - timedelta(days=7)

pytestmark = pytest.mark.usefixtures("defaults", "one_at_a_time")


@pytest.fixture(autouse=True)
def batches_of_a_hundred(settings, consumer, sandbox: Sandbox) -> None:
    settings.ISBNDB_BATCH_SIZE = BATCH
    enrich_isbns(unknown_isbns(1), consumer="reader")  # a client has asked for an ISBN that is not in the feed


def changed() -> list[str]:
    """The ISBNs of the sandbox's feed at noon, in order, without duplicates."""
    return list(dict.fromkeys(isbn for isbn, _ in feed.updates(WEEK, NOON)))


def named_once() -> list[str]:
    """Those that the feed names only once, before today: a run that reads today again does not name them again."""
    times = Counter(isbn for isbn, _ in feed.updates(WEEK, NOON))
    before = {isbn for isbn, moment in feed.updates(WEEK, NOON) if moment.date() < NOON.date()}
    return [isbn for isbn, count in times.items() if count == 1 and isbn in before]


def pages() -> int:
    """The number of pages of 1,000 entries, plus the empty page that ends the feed."""
    return -(-len(feed.updates(WEEK, NOON)) // 1000) + 1


def switch_consumer_off() -> None:
    Consumer.objects.filter(slug="cron-update-feed").update(active=False)


def cursor() -> dict[str, object]:
    found: dict[str, object] = CronState.objects.get(name="update-feed").cursor
    return found


@pytest.mark.slow
def test_changed_books_that_are_stored_or_were_missing_are_refreshed_in_full_batches(sandbox: Sandbox) -> None:
    stored, missed = changed()[5:255], changed()[-30:]
    enrich_isbns(stored, consumer="reader")
    remember_misses(missed)
    Edition.objects.update(synced_at=Now() - timedelta(days=1))
    calls, before = sandbox.spent, len(sandbox.requests)
    assert pages() > 2

    run = run_cron("update-feed")
    batches = [request["asked"] for request in sandbox.requests[before:] if request["path"] == "/books"]
    assert (run.outcome, batches) == ("succeeded", [BATCH, BATCH, 80])
    assert (run.calls, run.books) == (3, 280)
    assert len(sandbox.requests) == before + pages() + 3, "the pages of the feed cost no call"
    assert Edition.objects.filter(pk__in=stored + missed, synced_at__gt=Now() - timedelta(hours=1)).count() == 280
    assert Edition.objects.count() == 280, "only known ISBNs are stored"
    assert cursor() == {"since": "2026-05-05"}
    assert balance(sandbox) == (calls + run.calls,) * 2


@pytest.mark.slow
def test_stale_books_fill_the_last_batch_and_the_next_run_reads_from_the_day_of_this_one(
    sandbox: Sandbox, set_clock: SetClock
) -> None:
    stale, stored = known_isbns(BATCH + 20), changed()[:30]
    enrich_isbns(stale + stored, consumer="reader")
    Edition.objects.filter(pk__in=stale).update(synced_at=Now() - timedelta(days=400))
    before = len(sandbox.requests)
    run = run_cron("update-feed")
    assert (run.calls, run.books) == (1, BATCH)
    assert [request["asked"] for request in sandbox.requests[before:] if request["asked"]] == [BATCH]
    assert Edition.objects.filter(synced_at__lt=Now() - timedelta(days=300)).count() == 50

    before = len(sandbox.requests)
    run = run_cron("update-feed")
    queries = [request["query"] for request in sandbox.requests[before:] if request["path"].startswith("/feeds")]
    assert queries == [f"lastUpdated=2026-05-05&page={page}&pageSize=1000" for page in (1, 2)]

    far = NOON + timedelta(days=20)
    set_clock(far)
    sandbox.set_clock(offset_seconds=(far - datetime.now(UTC)).total_seconds())
    run_cron("update-feed")
    assert any("lastUpdated=2026-05-18&page=1&" in request["query"] for request in sandbox.requests), "7 days back"


@pytest.mark.slow
def test_what_a_stopped_run_has_read_but_not_sent_waits_for_the_next_run(sandbox: Sandbox, monkeypatch) -> None:
    stored = named_once()[:250]
    enrich_isbns(stored, consumer="reader")
    calls, before = sandbox.spent, len(sandbox.requests)
    sandbox.add_fault("drip", seconds=0, path="/books", times=1)  # the first batch is answered
    sandbox.add_fault("daily_limit", path="/books")
    run = run_cron("update-feed")
    assert (run.outcome, run.books, run.calls) == ("stopped", BATCH, 2)
    assert cursor() == {"since": "2026-05-05"}, "the feed was read to its end"
    assert Edition.objects.filter(named_at__isnull=False).count() == 150
    assert fresh_isbns(stored) == set(stored) - set(named_isbns(150)), "what the feed named is due"

    sandbox.clear_faults()
    DailyLedger.objects.update(closed_at=None)
    run = run_cron("update-feed")
    assert (run.outcome, run.books) == ("succeeded", 150)
    assert not Edition.objects.filter(named_at__isnull=False).exists()
    assert balance(sandbox) == (calls + 2 + 2,) * 2
    assert len(sandbox.requests) == before + pages() + 2 + 2 + 2, "the next run reads from the day of the first one"


@pytest.mark.slow
def test_a_reading_that_takes_several_runs_continues_with_the_next_page(sandbox: Sandbox, monkeypatch) -> None:
    stored = named_once()[:50] + named_once()[-50:]
    enrich_isbns(stored, consumer="reader")
    monkeypatch.setattr(feed_cron, "MAX_PAGES", 1)
    run = run_cron("update-feed")
    assert (run.outcome, run.books) == ("succeeded", 50)
    assert cursor() == {"since": str(WEEK), "began": "2026-05-05", "page": 2}
    assert FeedFollowing.objects.get().read_up_to is None

    monkeypatch.setattr(feed_cron, "MAX_PAGES", 100)
    run = run_cron("update-feed")
    assert (run.outcome, run.books) == ("succeeded", 50)
    assert cursor() == {"since": "2026-05-05"}
    assert run.calls == 1
    following = FeedFollowing.objects.get()
    assert following.read_up_to == following.began_at, "the reading began with the first run"


@pytest.mark.slow
def test_a_failed_batch_comes_last_in_the_next_run_and_blocks_nothing(sandbox: Sandbox, monkeypatch) -> None:
    stored = named_once()[:250]
    enrich_isbns(stored, consumer="reader")
    sandbox.add_fault("garbage", path="/books", times=1)
    monkeypatch.setattr(feed_cron, "MAX_BATCHES", 1)
    sent: list[list[str]] = []
    halves = Batches.asked_by

    def asked_by(self: Batches, exchanged: Any) -> list[str]:
        sent.append(halves(self, exchanged))
        return sent[-1]

    monkeypatch.setattr(Batches, "asked_by", asked_by)
    run = run_cron("update-feed")
    assert (run.outcome, run.books, run.calls) == ("failed", 0, 1)
    assert len(named_isbns(1000)) == 250
    assert run_cron("update-feed").books == BATCH
    first, second = sent
    assert set(named_isbns(250)) == set(stale_isbns(250)) == set(stored) - set(second) > set(first)

    sandbox.add_fault("garbage", path="/books", times=1)
    monkeypatch.setattr(feed_cron, "MAX_BATCHES", 100)
    run = run_cron("update-feed")
    assert (run.outcome, run.books) == ("failed", 50), "after a failure the run goes on with the next batch"


@pytest.mark.slow
def test_a_page_that_fails_twice_is_skipped_and_ends_the_following(sandbox: Sandbox) -> None:
    run_cron("update-feed")
    forget_cursor("update-feed")
    before = len(sandbox.requests)
    sandbox.add_fault("drip", seconds=0, path="/feeds", times=1)  # the first page is answered
    sandbox.add_fault("garbage", path="/feeds", times=2)
    run = run_cron("update-feed")
    assert (run.outcome, len(sandbox.requests)) == ("failed", before + 2)
    assert cursor() == {"since": str(WEEK), "began": "2026-05-05", "page": 2, "failed_page": 2}
    assert FeedFollowing.objects.get().ended_at is None, "the next run may read it"
    run = run_cron("update-feed")
    assert (run.outcome, len(sandbox.requests)) == ("failed", before + 2 + pages() - 1)
    assert cursor() == {"since": "2026-05-05"}
    [ended] = FeedFollowing.objects.all()
    assert ended.why_ended == "Page 2 failed in two runs and was skipped: ISBNdb's answer could not be read."
    assert ended.ended_by == f"run:{run.pk}"
    run = run_cron("update-feed")
    assert (run.outcome, len(sandbox.requests)) == ("succeeded", before + pages() + 3)
    assert FeedFollowing.objects.filter(ended_at=None, read_up_to__isnull=False).count() == 1


def test_a_plan_without_the_feed_is_a_failed_run_that_says_so_and_ends_the_following(sandbox: Sandbox) -> None:
    run_cron("update-feed")
    sandbox.add_fault("status", status=403, path="/feeds")
    run = run_cron("update-feed")
    assert (run.outcome, run.calls) == ("failed", 1), "for ISBNdb's counter, which has calls left"
    assert "403" in run.reason
    [ended] = FeedFollowing.objects.all()
    assert ended.why_ended.startswith("ISBNdb refused the feed: ")
    assert "403" in ended.why_ended


def test_a_run_after_more_than_a_week_records_the_gap(sandbox: Sandbox) -> None:
    run_cron("update-feed")
    FeedFollowing.objects.update(read_up_to=Now() - timedelta(days=7, minutes=1))
    run = run_cron("update-feed")
    now, before = FeedFollowing.objects.all()
    assert (before.why_ended, before.ended_by) == (feed_service.TOO_LONG, f"run:{run.pk}")
    assert now.read_up_to == now.began_at


@pytest.mark.slow
def test_a_killed_run_loses_nothing_that_it_has_read(sandbox: Sandbox, monkeypatch) -> None:
    stored = named_once()[:250]
    enrich_isbns(stored, consumer="reader")

    def die(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(batches, "add_answer", die)
        with pytest.raises(KeyboardInterrupt):
            run_cron("update-feed")
    assert set(named_isbns(1000)) == set(stored)
    assert run_cron("update-feed").books == 250


@pytest.mark.slow
@pytest.mark.parametrize("closed", [False, True])
def test_when_no_call_is_left_the_feed_is_read_and_what_it_names_waits(sandbox: Sandbox, closed: bool) -> None:
    stored = named_once()[:30]
    enrich_isbns(stored, consumer="reader")
    if closed:
        DailyLedger.objects.update(closed_at=NOON)
    else:
        quota.increment(get_status().remaining)
        sandbox.set_limits(spent=get_status().used)
    run = run_cron("update-feed")
    assert (run.outcome, run.calls, run.books) == ("stopped", 0, 0)
    assert run.reason.startswith("day_closed: " if closed else "safety_limit: ")
    assert cursor() == {"since": "2026-05-05"}
    assert set(named_isbns(1000)) == set(stored)
    assert FeedFollowing.objects.filter(ended_at=None, read_up_to__isnull=False).exists()

    DailyLedger.objects.update(closed_at=None, used=0)
    sandbox.set_limits(spent=0)
    assert run_cron("update-feed").books == 30


@pytest.mark.parametrize("switch", [lambda: Switches.objects.create(harvest_enabled=False), switch_consumer_off])
def test_a_run_that_is_switched_off_does_not_read_the_feed(sandbox: Sandbox, switch: Callable[[], object]) -> None:
    switch()
    before = len(sandbox.requests)
    run = run_cron("update-feed")
    assert (run.outcome, run.calls, len(sandbox.requests)) == ("skipped", 0, before)
    assert "switched off" in run.reason


@pytest.mark.slow
def test_by_the_isbn_batches_are_cut_to_what_is_free_and_nothing_fills_the_last(sandbox: Sandbox, settings) -> None:
    stored, stale = named_once()[:250], known_isbns(20)
    enrich_isbns(stored + stale, consumer="reader")
    Edition.objects.filter(pk__in=stale).update(synced_at=Now() - timedelta(days=400))
    settings.ISBNDB_BATCH_PRICE = "isbn"
    sandbox.set_plan(batch_price="isbn")
    before = len(sandbox.requests)
    floor = Consumer.objects.get(slug="cron-update-feed").floor
    quota.increment(get_status().remaining - floor - 130)
    used = get_status().used
    sandbox.set_limits(spent=used)
    run = run_cron("update-feed")
    assert (run.outcome, run.calls, run.books) == ("stopped", 130, 130)
    assert balance(sandbox) == (used + 130,) * 2
    assert [request["asked"] for request in sandbox.requests[before:] if request["asked"]] == [100, 30]
    assert get_status().remaining == floor
    assert len(named_isbns(1000)) == 120

    DailyLedger.objects.update(used=0)
    Consumer.objects.filter(slug="cron-update-feed").update(floor=0)
    run = run_cron("update-feed")
    assert (run.outcome, run.calls, run.books) == ("succeeded", 120, 120), "no stale book is added"
