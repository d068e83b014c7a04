"""update-feed: refreshes the known ISBNs that ISBNdb's feed of updates lists."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models.functions import Now

from alexandria.development.sandbox import feed
from alexandria.development.sandbox.server import Sandbox
from enrichment.books.storage import remember_misses
from enrichment.models import Edition
from enrichment.services.enrich import enrich_isbns
from harvest.crons import books
from harvest.models import CronState
from harvest.runs import run_cron
from quota.models import DailyLedger
from tests.fixtures import NOON, SetClock, balance, known_isbns, unknown_isbns

BATCH = 100
WEEK = NOON.date() - timedelta(days=7)

pytestmark = pytest.mark.usefixtures("defaults")


@pytest.fixture(autouse=True)
def batches_of_a_hundred(settings, consumer, sandbox: Sandbox) -> None:
    settings.ISBNDB_BATCH_SIZE = BATCH
    enrich_isbns(unknown_isbns(1), consumer="reader")  # a client has asked for an ISBN that is not in the feed


def changed() -> list[str]:
    """The ISBNs of the sandbox's feed at noon, in order, without duplicates."""
    return list(dict.fromkeys(isbn for isbn, _ in feed.updates(WEEK, NOON)))


def pages() -> int:
    """The number of pages of 1,000 entries, plus the empty page that ends the feed."""
    return -(-len(feed.updates(WEEK, NOON)) // 1000) + 1


def cursor() -> dict[str, object]:
    found: dict[str, object] = CronState.objects.get(name="update-feed").cursor
    return found


@pytest.mark.slow
def test_changed_books_that_are_stored_or_were_missing_are_refreshed_in_full_batches(sandbox: Sandbox) -> None:
    stored, missed = changed()[5:255], changed()[-30:]
    enrich_isbns(stored, consumer="reader")
    remember_misses(missed)
    Edition.objects.update(synced_at=Now() - timedelta(days=1))
    calls = sandbox.spent
    assert pages() > 2

    run = run_cron("update-feed")
    batches = [request["asked"] for request in sandbox.requests[calls:] if request["path"] == "/books"]
    assert (run.outcome, batches) == ("succeeded", [BATCH, BATCH, 80])
    assert (run.calls, run.books) == (pages() + 3, 280)
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
    calls = sandbox.spent
    run = run_cron("update-feed")
    assert (run.calls, run.books) == (pages() + 1, BATCH)
    assert [request["asked"] for request in sandbox.requests[calls:] if request["asked"]] == [BATCH]
    assert Edition.objects.filter(synced_at__lt=Now() - timedelta(days=300)).count() == 50

    calls = sandbox.spent
    run = run_cron("update-feed")
    queries = [request["query"] for request in sandbox.requests[calls:] if request["path"].startswith("/feeds")]
    assert queries == [f"lastUpdated=2026-05-05&page={page}&pageSize=1000" for page in (1, 2)]

    far = NOON + timedelta(days=20)
    set_clock(far)
    sandbox.set_clock(offset_seconds=(far - datetime.now(UTC)).total_seconds())
    run_cron("update-feed")
    assert any("lastUpdated=2026-05-18&page=1&" in request["query"] for request in sandbox.requests), "7 days back"


@pytest.mark.slow
def test_a_stopped_run_continues_with_the_next_page_and_loses_no_isbn(sandbox: Sandbox, monkeypatch) -> None:
    times = Counter(isbn for isbn, _ in feed.updates(WEEK, NOON))
    stored = [isbn for isbn, count in times.items() if count == 1][:250]
    enrich_isbns(stored, consumer="reader")
    calls = sandbox.spent
    sandbox.add_fault("drip", seconds=0, path="/books", times=1)  # the first batch is answered
    sandbox.add_fault("daily_limit", path="/books")
    run = run_cron("update-feed")
    assert (run.outcome, run.books) == ("stopped", BATCH)
    assert cursor() == {"since": str(WEEK), "began": "2026-05-05", "page": 2, "pending": stored[BATCH:]}

    sandbox.clear_faults()
    DailyLedger.objects.update(closed_at=None)
    monkeypatch.setattr(books, "MAX_FEED_PAGES", 1)
    run = run_cron("update-feed")
    assert (run.outcome, run.books) == ("succeeded", BATCH)
    assert cursor()["page"] == 3, "a run reads at most that number of pages"

    monkeypatch.setattr(books, "MAX_FEED_PAGES", 100)
    run = run_cron("update-feed")
    assert (run.outcome, run.books) == ("succeeded", 50)
    assert cursor() == {"since": "2026-05-05"}
    assert run.calls == pages() - 2 + 1
    assert balance(sandbox) == (calls + pages() + 4,) * 2, "each page is read once; one batch is sent twice"


@pytest.mark.slow
def test_a_failed_batch_is_sent_once_more_and_blocks_nothing(sandbox: Sandbox) -> None:
    times = Counter(isbn for isbn, _ in feed.updates(WEEK, NOON))
    stored = [isbn for isbn, count in times.items() if count == 1][:250]
    enrich_isbns(stored, consumer="reader")
    Edition.objects.update(synced_at=Now() - timedelta(days=1))
    sandbox.add_fault("garbage", path="/books", times=1)
    run = run_cron("update-feed")
    assert (run.outcome, run.books, run.calls) == ("failed", 150, pages() + 3)
    assert cursor() == {"since": "2026-05-05", "again": stored[:BATCH]}

    sandbox.add_fault("garbage", path="/books", times=1)
    run = run_cron("update-feed")
    assert (run.outcome, run.books) == ("failed", 0)
    assert cursor() == {"since": "2026-05-05"}, "stale-refresh handles ISBNs that failed twice"


@pytest.mark.slow
def test_a_page_that_fails_twice_is_skipped(sandbox: Sandbox) -> None:
    sandbox.add_fault("drip", seconds=0, path="/feeds", times=1)  # the first page is answered
    sandbox.add_fault("garbage", path="/feeds", times=2)
    run = run_cron("update-feed")
    assert (run.outcome, run.calls) == ("failed", 2)
    assert cursor() == {"since": str(WEEK), "began": "2026-05-05", "page": 2, "pending": [], "failed_page": 2}
    run = run_cron("update-feed")
    assert (run.outcome, run.calls) == ("failed", pages() - 1)
    assert cursor() == {"since": "2026-05-05"}
    run = run_cron("update-feed")
    assert (run.outcome, run.calls) == ("succeeded", 2)


def test_a_plan_without_the_feed_is_a_failed_run_that_says_so(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=403, path="/feeds")
    run = run_cron("update-feed")
    assert (run.outcome, run.calls) == ("failed", 1)
    assert "403" in run.reason
