"""new-releases: reads this month and last month, and continues where it stopped."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import pytest

from alexandria.development.sandbox import listings
from alexandria.development.sandbox.server import Sandbox
from enrichment.models import Edition
from enrichment.services.releases import Wanted, read_token, resume_token
from harvest import runs
from harvest.models import CronState
from harvest.runs import run_cron
from quota.models import Reservation
from quota.selectors.status import get_status
from quota.services import reservations as quota
from tests import processes
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


def all_stored() -> bool:
    return Edition.objects.count() == books_of("2026-04") + books_of("2026-05")


@pytest.mark.slow
def test_the_next_day_continues_where_the_quota_stopped_the_run(sandbox: Sandbox, set_clock: SetClock) -> None:
    sandbox.add_fault("daily_limit", path="/books/2026-05", times=1)
    run = run_cron("new-releases")
    assert (run.outcome, run.reason.partition(":")[0]) == ("stopped", "day_closed")
    answered = [request for request in sandbox.requests if request["status"] == 200]
    assert (run.calls, run.books) == (len(sandbox.requests), Edition.objects.count())
    assert answered
    assert set(run.cursor) == {"resume"}
    assert run_cron("new-releases").reason == "ISBNdb has reported that its quota of the day is used up."
    assert cursor() == run.cursor, "a skipped run does not change the cursor"

    next_day(sandbox, set_clock)
    run = run_cron("new-releases")
    rest = pages_of("2026-04") + pages_of("2026-05") - len(answered)
    assert (run.outcome, run.calls) == ("succeeded", rest)
    assert all_stored()
    assert cursor() == {}
    assert balance(sandbox) == (rest, rest)


@pytest.mark.slow
def test_a_killed_worker_leaves_its_place_and_the_next_run_goes_on_at_the_page(
    sandbox: Sandbox, set_clock: SetClock
) -> None:
    pages = pages_of("2026-04") + pages_of("2026-05")
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.harvest.doomed_cron", "new-releases", str(pages - 1)],
        env=processes.environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "waiting\n", "all pages have come but the last is not stored"
        processes.kill(worker)
    assert len(sandbox.requests) == pages
    place = read_token(cursor()["resume"], consumer="cron-new-releases")[1]
    assert place["begun"] == 2
    assert sum(len(listing["missing"]) for listing in place["open"].values()) == 1

    set_clock(NOON + timedelta(minutes=10))
    assert runs.end_dead_runs() == 1
    quota.expire()
    run = run_cron("new-releases")
    assert (run.outcome, run.calls) == ("succeeded", 1)
    assert all_stored()
    assert balance(sandbox) == (pages + 1, pages + 1)


@pytest.mark.slow
def test_a_refused_key_ends_the_run_and_keeps_the_cursor(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=401, path="/books/2026-05")
    run = run_cron("new-releases")
    assert (run.outcome, run.books) == ("failed", Edition.objects.count())
    sandbox.clear_faults()
    answered = sum(request["status"] == 200 for request in sandbox.requests)
    rest = run_cron("new-releases")
    assert (rest.outcome, rest.calls) == ("succeeded", pages_of("2026-04") + pages_of("2026-05") - answered)
    assert all_stored()
    assert balance(sandbox) == (run.calls + rest.calls, run.calls + rest.calls)


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
def test_consecutive_failed_pages_end_the_run_and_the_next_run_tries_them_last(sandbox: Sandbox) -> None:
    def missing() -> list[int]:
        """The numbers of the pages that are missing in the second month, in their order."""
        place = read_token(cursor()["resume"], consumer="cron-new-releases")[1]
        assert set(place["open"]) == {"1"}
        return [offset // 1000 + 1 for offset, _ in place["open"]["1"]["missing"]]

    wanted = Wanted(start_month=date(2026, 4, 1), end_month=date(2026, 5, 1), max_pages_per_month=10)
    first_month_is_done = {"resume": resume_token(wanted, {"begun": 1, "open": {}}, consumer="cron-new-releases")}
    CronState.objects.filter(name="new-releases").update(cursor=first_month_is_done)
    sandbox.add_fault("garbage", path="/books/2026-05")
    places = []
    for _ in range(3):
        run = run_cron("new-releases")
        assert (run.outcome, run.calls) == ("failed", 3)
        assert "3 failures in a row" in run.reason
        places.append(missing())
    assert places[:2] == [[4, 1, 2, 3], [7, 1, 2, 3, 4, 5, 6]]

    sandbox.clear_faults()
    assert run_cron("new-releases").outcome == "succeeded"
    assert cursor() == {}
    assert Edition.objects.count() == books_of("2026-05")
