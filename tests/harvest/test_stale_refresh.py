"""stale-refresh: sends the oldest books first, in full batches only."""

import json
from datetime import timedelta
from urllib.parse import unquote

import pytest
from django.core.management import call_command
from django.db.models.functions import Now

from alexandria.development.sandbox.server import Sandbox
from enrichment.books.storage import remember_misses
from enrichment.models import Author, Edition, Miss
from enrichment.services.bibliographies import enrich_bibliography
from enrichment.services.enrich import enrich_isbns
from enrichment.services.refresh_plans import RefreshPlan, plan_refresh
from harvest.crons import books
from harvest.models import CronState
from harvest.runs import run_cron
from quota.selectors.status import get_status
from quota.services import reservations as quota
from tests.fixtures import balance, known_isbns

BATCH = 10
LARGE, SMALL, OTHER = "Aldous Huxley", "Ada Brandvold", "Ada Nakagawa"

pytestmark = pytest.mark.usefixtures("defaults", "one_at_a_time")


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


@pytest.fixture
def by_isbn(settings, sandbox: Sandbox) -> None:
    """ISBNdb charges a call for each ISBN of a batch, and so do we."""
    settings.ISBNDB_BATCH_PRICE = "isbn"
    sandbox.set_plan(batch_price="isbn")


def keep(*authors: str) -> RefreshPlan:
    """Stores the books of the authors, makes them stale, and returns the plan of their refresh."""
    for author in authors:
        enrich_bibliography(author, consumer="reader")
    Edition.objects.update(synced_at=Now() - timedelta(days=100))
    return plan_refresh(sorted(Edition.objects.values_list("pk", flat=True)))


def stale() -> int:
    return Edition.objects.filter(synced_at__lt=Now() - timedelta(days=90)).count()


def paths(sandbox: Sandbox, since: int) -> list[str]:
    return [unquote(request["path"]) for request in sandbox.requests[since:]]


@pytest.mark.slow
@pytest.mark.usefixtures("by_isbn")
def test_by_the_isbn_authors_are_listed_and_the_rest_goes_into_batches_of_any_size(sandbox: Sandbox) -> None:
    single = store(3, days_ago=100)
    plan = keep(LARGE, SMALL)
    assert set(plan.rest).issuperset(single)
    before, calls = len(sandbox.requests), sandbox.spent
    run = run_cron("stale-refresh")
    assert (run.outcome, run.calls, stale()) == ("succeeded", 5, 0)
    assert paths(sandbox, before) == ["/author/Aldous Huxley", "/author/Ada Brandvold", "/books"]
    assert plan.calls_by_batches == run.books == Edition.objects.count(), "each book once"
    assert plan.calls == 5 + Edition.objects.filter(author_links=None).count(), "but the listings have these too"
    assert balance(sandbox) == (calls + 5, calls + 5)


@pytest.mark.slow
@pytest.mark.usefixtures("by_isbn")
def test_a_dry_run_says_what_the_plan_costs_and_what_batches_cost(settings, sandbox: Sandbox, capsys) -> None:
    keep(SMALL)
    calls = sandbox.spent
    call_command("run_cron", "stale-refresh", "--dry-run")
    shown = (
        "stale-refresh: Would run. 5 editions for 1 call (1 author listing for 5 editions); in batches alone 5 calls."
    )
    assert capsys.readouterr().out.strip() == shown
    settings.ISBNDB_BATCH_PRICE = "request"
    settings.ISBNDB_BATCH_SIZE = 5
    call_command("run_cron", "stale-refresh", "--dry-run", "--json")
    plan = {"editions": 5, "calls": 1, "calls_by_batches": 1, "listings": 0, "editions_by_listings": 0}
    assert json.loads(capsys.readouterr().out)["plan"] == plan
    assert sandbox.spent == calls


@pytest.mark.slow
@pytest.mark.usefixtures("by_isbn")
def test_listings_that_bring_nothing_make_no_run_dearer_than_batches(sandbox: Sandbox) -> None:
    keep(SMALL)
    Author.objects.filter(name=SMALL).update(name=OTHER)
    editions, calls = Edition.objects.count(), sandbox.spent
    run = run_cron("stale-refresh")
    assert (run.outcome, run.calls) == ("succeeded", editions)
    assert stale() == 1, "the listing has taken the call for this one"
    assert not Miss.objects.exists()
    run = run_cron("stale-refresh")
    assert (run.calls, stale()) == (1, 0)
    assert balance(sandbox) == (calls + editions + 1, calls + editions + 1)


@pytest.mark.slow
@pytest.mark.usefixtures("by_isbn")
def test_the_editions_of_a_listing_that_fails_go_into_batches(sandbox: Sandbox) -> None:
    keep(LARGE, SMALL)
    before = len(sandbox.requests)
    sandbox.add_fault("garbage", path="/author", times=1)
    run = run_cron("stale-refresh")
    assert run.outcome == "failed"
    assert run.reason == "IsbndbUndecodable: ISBNdb's answer could not be read."
    assert paths(sandbox, before)[:3] == ["/author/Aldous Huxley", "/author/Ada Brandvold", "/books"]
    assert stale() == 0


@pytest.mark.slow
@pytest.mark.usefixtures("by_isbn")
def test_when_only_listings_fail_the_run_continues_with_batches(sandbox: Sandbox) -> None:
    keep(SMALL, "Ada Nakagawa", "Akwaeke Emezi")
    before = len(sandbox.requests)
    sandbox.add_fault("garbage", path="/author")
    run = run_cron("stale-refresh")
    assert [path == "/books" for path in paths(sandbox, before)][:3] == [False, False, True]
    assert len([path for path in paths(sandbox, before) if path != "/books"]) == 2
    assert (run.outcome, stale()) == ("failed", 2)


@pytest.mark.slow
@pytest.mark.usefixtures("by_isbn")
def test_by_the_isbn_a_run_leaves_most_calls_of_the_day_and_cuts_its_batches_to_what_is_free(
    sandbox: Sandbox, monkeypatch
) -> None:
    store(30, days_ago=100)
    Author.objects.update(name="x" * 151)  # so that none can be listed
    monkeypatch.setattr(books, "MAX_CALLS", 12)
    before = len(sandbox.requests)
    run = run_cron("stale-refresh")
    assert (run.outcome, run.calls, stale()) == ("succeeded", 12, 18)
    assert [request["asked"] for request in sandbox.requests[before:]] == [10, 2]
    monkeypatch.setattr(books, "MAX_CALLS", 3000)
    quota.increment(get_status().remaining - 1004)
    run = run_cron("stale-refresh")
    assert (run.outcome, run.calls, stale()) == ("stopped", 4, 14)
    assert run.reason.startswith("floor: ")


@pytest.mark.slow
def test_while_the_price_is_unknown_two_editions_are_sent_before_anything_is_planned(
    settings, sandbox: Sandbox
) -> None:
    settings.ISBNDB_BATCH_PRICE = "measure"
    keep(SMALL)
    before = len(sandbox.requests)
    run_cron("stale-refresh")
    asked = [request["asked"] for request in sandbox.requests[before:] if request["path"] == "/books"]
    assert asked[0] == 2
