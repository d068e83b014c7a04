"""The end of ISBNdb's day, in each wording that was seen in the field, met by everything that spends calls.

At most two calls reach ISBNdb beyond its limit: the one that meets it and, if the words are unclear, the question to
its counter. The day is closed, and nothing is remembered as unknown.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from alexandria.development.sandbox.plan import LIMIT_ANSWERS
from alexandria.development.sandbox.server import Sandbox
from enrichment.exceptions import EnrichmentStopped
from enrichment.jobs.lifecycle import create_job, resume_jobs
from enrichment.jobs.workers import run_job
from enrichment.models import AuthorMiss, Edition, Job, Miss, QueuedIsbn
from enrichment.services.bibliographies import enrich_bibliography
from enrichment.services.enrich import enrich_isbns
from enrichment.services.queue import enqueue
from enrichment.services.queue_flush import flush
from enrichment.services.releases import Wanted, enrich_new_releases
from harvest.defaults import ensure_defaults
from harvest.runs import run_cron
from quota.exceptions import QuotaRefused
from quota.models import Consumer, DailyLedger
from quota.selectors.status import get_status
from tests.fixtures import NOON, balance, known_isbns
from tests.harvest.bulk import a_list, harvest

pytestmark = pytest.mark.usefixtures("consumer", "one_at_a_time")

MAY = Wanted(start_month=date(2024, 5, 1), end_month=date(2024, 6, 1), max_pages_per_month=2)


@pytest.fixture(params=LIMIT_ANSWERS)
def two_calls_left(request: pytest.FixtureRequest, sandbox: Sandbox, settings) -> Iterator[Sandbox]:
    """ISBNdb has two calls left, and says at its limit what the parameter names. We would have thousands left."""
    settings.ISBNDB_BATCH_SIZE = 3
    sandbox.set_plan(limit_answer=request.param)
    sandbox.set_limits(daily_limit=2)
    ensure_defaults()
    yield sandbox
    assert len(sandbox.requests) <= 4, "the two that were left, the one that met the limit, and one question"
    status = get_status()
    assert (status.used, status.remaining, status.can_make_calls) == (sandbox.spent, 0, False)
    assert status.closed_reason
    assert not Miss.objects.exists()
    assert not AuthorMiss.objects.exists()


def test_a_batch_is_refused_and_the_batches_before_it_are_stored(two_calls_left: Sandbox) -> None:
    with pytest.raises(EnrichmentStopped) as stopped:
        enrich_isbns(known_isbns(9), consumer="reader")
    assert isinstance(stopped.value.reason, QuotaRefused)
    assert (stopped.value.reason.limit, stopped.value.result.created) == ("day_closed", 6)
    with pytest.raises(EnrichmentStopped):  # nothing more is sent
        enrich_isbns(known_isbns(9), consumer="reader")


@pytest.mark.parametrize("answer", LIMIT_ANSWERS)
def test_a_batch_that_pays_by_the_isbn_meets_the_end_in_the_middle(sandbox: Sandbox, settings, answer: str) -> None:
    settings.ISBNDB_BATCH_SIZE, settings.ISBNDB_BATCH_PRICE = 3, "isbn"
    sandbox.set_plan(limit_answer=answer, batch_price="isbn")
    sandbox.set_limits(daily_limit=8)
    with pytest.raises(EnrichmentStopped) as stopped:
        enrich_isbns(known_isbns(12), consumer="reader")
    assert isinstance(stopped.value.reason, QuotaRefused)
    assert (stopped.value.reason.limit, stopped.value.result.created) == ("day_closed", 6)
    assert len(sandbox.requests) <= 4
    assert balance(sandbox) == (sandbox.spent, sandbox.spent)
    assert not Miss.objects.exists()


@pytest.mark.parametrize("answer", LIMIT_ANSWERS)
def test_a_probe_that_finds_nothing_left_closes_the_day_and_sends_no_batch(
    sandbox: Sandbox, settings, answer: str
) -> None:
    settings.ISBNDB_BATCH_PRICE = "measure"
    sandbox.set_plan(limit_answer=answer)
    sandbox.set_limits(daily_limit=0)
    with pytest.raises(EnrichmentStopped) as stopped:
        enrich_isbns(known_isbns(9), consumer="reader")
    assert isinstance(stopped.value.reason, QuotaRefused)
    assert stopped.value.reason.limit == "day_closed"
    assert [request["path"] for request in sandbox.requests] == ["/key"]
    assert balance(sandbox) == (1, 1)


def test_an_author_is_not_complete_although_a_page_is_not_found(two_calls_left: Sandbox) -> None:
    result = enrich_bibliography("R.L. Stine", consumer="reader")
    assert (result.complete, result.stopped_reason, result.next_page) == (False, "day_closed", 3)


def test_an_author_is_not_remembered_as_unknown(two_calls_left: Sandbox) -> None:
    two_calls_left.set_limits(daily_limit=0)
    with pytest.raises(EnrichmentStopped) as stopped:
        enrich_bibliography("Nobody At All", consumer="reader")
    assert isinstance(stopped.value.reason, QuotaRefused)


def test_new_releases_stop_where_they_can_be_resumed(two_calls_left: Sandbox) -> None:
    result = enrich_new_releases(MAY, consumer="reader")
    assert (result.complete, result.stopped_reason, result.quota_exhausted) == (False, "day_closed", True)
    assert result.resume


def test_the_queue_keeps_its_isbns_without_an_attempt(two_calls_left: Sandbox) -> None:
    enqueue(known_isbns(9), priority=QueuedIsbn.Priority.HIGH, consumer="reader")
    assert flush().stopped_reason == "day_closed"
    assert list(QueuedIsbn.objects.values_list("attempts", "claim", "last_error")) == [(0, None, "")] * 3


@pytest.mark.parametrize("kind", [Job.Kind.BATCH_DIRECT, Job.Kind.BIBLIOGRAPHY])
def test_a_job_that_is_to_wait_waits_for_the_next_day(
    two_calls_left: Sandbox, consumer: Consumer, kind: Job.Kind
) -> None:
    wanted = {"isbns": known_isbns(9)} if kind == Job.Kind.BATCH_DIRECT else {"author_name": "R.L. Stine"}
    job = create_job(consumer=consumer, kind=kind, wanted=wanted, on_exhausted=Job.OnExhausted.WAIT)
    run_job()
    job.refresh_from_db()
    assert (job.state, job.stopped_reason) == ("waiting", "day_closed")
    assert job.resume_at is not None
    assert job.resume_at.date() > NOON.date()


def test_a_bulk_harvest_keeps_its_authors_and_ends_with_an_exit_code(two_calls_left: Sandbox, tmp_path: Path) -> None:
    names = ["Adam Silvera", "Agatha Christie", "R.L. Stine", "Somebody Else", "Another Author"]
    ended = harvest(a_list(tmp_path, *names), "--max-pages", "1")
    assert ended.code == 2
    assert (ended.summary["unknown"], ended.summary["pending"]) == (0, 3)


def test_a_larger_plan_opens_the_day_at_the_next_reconciliation_and_waiting_jobs_continue(
    sandbox: Sandbox, consumer: Consumer, defaults: None, settings
) -> None:
    settings.ISBNDB_BATCH_SIZE = 3
    sandbox.set_limits(daily_limit=0)
    job = create_job(
        consumer=consumer,
        kind=Job.Kind.BATCH_DIRECT,
        wanted={"isbns": known_isbns(3)},
        on_exhausted=Job.OnExhausted.WAIT,
    )
    run_job()
    assert run_cron("reconciliation").outcome == "succeeded", "while the day is closed, it still asks"
    assert (get_status().can_make_calls, resume_jobs()) == (False, 0)

    sandbox.set_limits(daily_limit=15_000)
    assert run_cron("reconciliation").outcome == "succeeded"
    assert get_status().can_make_calls
    assert resume_jobs() == 1
    run_job()
    job.refresh_from_db()
    assert (job.state, Edition.objects.count()) == ("succeeded", 3)
    assert balance(sandbox) == (4, 4)


def test_a_closed_day_costs_nothing_more(two_calls_left: Sandbox) -> None:
    two_calls_left.set_limits(daily_limit=0)
    for name in ("Nobody", "Somebody", "Anybody"):
        with pytest.raises(EnrichmentStopped):
            enrich_bibliography(name, consumer="reader")
    assert len(two_calls_left.requests) <= 2
    assert DailyLedger.objects.get().closed_at
