"""new-releases: reads this month and last month, and continues where it stopped."""

from datetime import UTC, datetime, timedelta

import pytest

from alexandria.development.sandbox import listings
from alexandria.development.sandbox.server import Sandbox
from enrichment.models import Edition
from enrichment.services.releases import read_token
from harvest.models import CronState
from harvest.runs import run_cron
from quota.models import Reservation
from quota.selectors.status import get_status
from quota.services import reservations as quota
from tests.fixtures import NOON, SetClock, balance

pytestmark = pytest.mark.usefixtures("defaults")


def books_of(month: str) -> int:
    """How many books the sandbox has for a month."""
    listing = listings.of_query(month, "date_published")
    return listing.page(1, 1000, listings.Filters())[1]


def pages_of(month: str) -> int:
    return -(-books_of(month) // 1000)


def next_day(sandbox: Sandbox, set_clock: SetClock) -> None:
    set_clock(NOON + timedelta(days=1))
    sandbox.set_clock(offset_seconds=(NOON + timedelta(days=1) - datetime.now(UTC)).total_seconds())


def cursor() -> dict[str, str]:
    found: dict[str, str] = CronState.objects.get(name="new-releases").cursor
    return found


@pytest.mark.slow
def test_the_books_of_this_month_and_last_month_cost_one_call_per_page(sandbox: Sandbox) -> None:
    run = run_cron("new-releases")
    pages = pages_of("2026-04") + pages_of("2026-05")
    assert (run.outcome, run.calls, run.books) == ("succeeded", pages, books_of("2026-04") + books_of("2026-05"))
    assert Edition.objects.count() == run.books
    assert cursor() == {}
    assert balance(sandbox) == (pages, pages)
    assert Reservation.objects.get().calls == pages, "unneeded calls are released"

    again = run_cron("new-releases")
    assert (again.outcome, again.calls, again.books) == ("succeeded", pages, 0), "the books are already stored"


@pytest.mark.slow
def test_the_next_day_continues_where_the_quota_stopped_the_run(
    sandbox: Sandbox, set_clock: SetClock, monkeypatch
) -> None:
    first = pages_of("2026-04")
    sandbox.add_fault("daily_limit", path="/books/2026-05")
    run = run_cron("new-releases")
    assert (run.outcome, run.reason) == ("stopped", "day_closed")
    assert (run.calls, run.books) == (first + 1, books_of("2026-04"))
    assert set(run.cursor) == {"resume"}
    assert run_cron("new-releases").reason == "ISBNdb has reported that its quota of the day is used up."
    assert cursor() == run.cursor, "a skipped run does not change the cursor"

    sandbox.clear_faults()
    next_day(sandbox, set_clock)
    run = run_cron("new-releases")
    rest = pages_of("2026-05")
    assert (run.outcome, run.calls, run.books) == ("succeeded", rest, books_of("2026-05"))
    assert cursor() == {}
    assert balance(sandbox) == (rest, rest)


@pytest.mark.slow
def test_a_failure_of_isbndb_keeps_the_cursor(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=401, path="/books/2026-05")
    run = run_cron("new-releases")
    assert (run.outcome, run.books) == ("failed", books_of("2026-04"))
    sandbox.clear_faults()
    rest = pages_of("2026-05")
    assert run_cron("new-releases").calls == rest
    assert balance(sandbox) == (run.calls + rest, run.calls + rest)


@pytest.mark.slow
def test_it_is_skipped_when_not_all_is_covered_and_forgets_a_cursor_of_another_secret_key(
    sandbox: Sandbox, set_clock: SetClock
) -> None:
    CronState.objects.filter(name="new-releases").update(cursor={"resume": "made-with-another-secret-key"})
    quota.increment(get_status().remaining - 1000 - 19)
    run = run_cron("new-releases")
    assert (run.outcome, run.calls) == ("skipped", 0)
    assert run.reason == "floor: This consumer must leave calls free for others."
    assert sandbox.spent == 0

    next_day(sandbox, set_clock)
    assert run_cron("new-releases").books == books_of("2026-04") + books_of("2026-05")


@pytest.mark.slow
def test_a_failed_page_is_skipped_and_the_next_run_reads_all_pages_again(sandbox: Sandbox) -> None:
    sandbox.add_fault("garbage", path="/books/2026-04", times=1)
    run = run_cron("new-releases")
    pages = pages_of("2026-04") + pages_of("2026-05")
    assert (run.outcome, run.calls) == ("failed", max(2, pages_of("2026-04")) + pages_of("2026-05"))
    assert run.reason == "IsbndbUndecodable: ISBNdb's answer could not be read."
    assert run.books >= books_of("2026-05")
    assert cursor() == {}
    run = run_cron("new-releases")
    assert (run.outcome, run.calls) == ("succeeded", pages)
    assert Edition.objects.count() == books_of("2026-04") + books_of("2026-05")


@pytest.mark.slow
def test_consecutive_failed_pages_end_the_run_and_the_next_run_gets_one_page_further(sandbox: Sandbox) -> None:
    def place() -> tuple[int, int]:
        position = read_token(cursor()["resume"])[1]
        return position.listing, position.offset

    sandbox.add_fault("garbage", path="/books/2026-05")
    places = []
    for calls in (pages_of("2026-04") + 3, 3, 3):
        run = run_cron("new-releases")
        assert (run.outcome, run.calls) == ("failed", calls)
        assert "3 failures in a row" in run.reason
        places.append(place())
    assert places == [(1, 0), (1, 1000), (1, 2000)]

    sandbox.clear_faults()
    assert run_cron("new-releases").outcome == "succeeded"
    assert cursor() == {}
    assert run_cron("new-releases").books == books_of("2026-05"), "all of it"
