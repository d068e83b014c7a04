"""Jobs of authors: several at once, failures, what is not paid for twice, and figures that add up."""

from typing import Any

import pytest

from alexandria.development.sandbox import catalogue
from alexandria.development.sandbox.server import Sandbox
from enrichment.exceptions import AlreadyBegun, AlreadyFinished, JobNotPaused
from enrichment.jobs import claims, ending
from enrichment.jobs.kinds import authors
from enrichment.jobs.lifecycle import cancel_job, create_job, pause_job, resume_job, retry_job
from enrichment.jobs.registry import handler_of
from enrichment.jobs.workers import run_job
from enrichment.models import AuthorMiss, Edition, Job
from enrichment.selectors.jobs import job_failures
from quota.database import QuotaNow
from quota.models import Consumer
from tests.enrichment.jobs.test_jobs import during_request
from tests.fixtures import balance

NAMES = ["Ada Brandvold", catalogue.MORE_THAN_1000, "Aldous Huxley", "Nobody At All"]

pytestmark = pytest.mark.usefixtures("consumer", "sandbox", "plenty_left")


def create(names: list[str] = NAMES, *, again: bool = False, label: str = "", **wanted: Any) -> Job:
    return create_job(
        consumer=Consumer.objects.get(slug="reader"),
        kind=Job.Kind.AUTHORS,
        wanted={"authors": names} | wanted,
        again=again,
        label=label,
    )


def run(job: Job) -> Job:
    run_job()
    return Job.objects.get(pk=job.pk)


def states(job: Job) -> list[str]:
    return list(job.authors.order_by("position").values_list("state", flat=True))


def figures_add_up(job: Job) -> bool:
    return all(
        author.found == author.new + author.changed + author.unchanged + author.already_fresh + author.failed
        for author in job.authors.all()
    )


@pytest.mark.slow
def test_the_books_of_all_authors_are_stored_and_every_book_is_accounted_for(sandbox: Sandbox) -> None:
    job = run(create(label="authors.csv"))
    assert (job.state, job.done, job.total, job.label) == ("succeeded", 4, 4, "authors.csv")
    assert states(job) == ["done", "done", "done", "unknown"]
    assert figures_add_up(job)
    result = job.result or {}
    assert result["found"] == result["new"] + result["failed"] > 1432
    assert (result["new"], result["authors_done"], result["api_calls"]) == (Edition.objects.count(), 3, 5)
    assert sum(job.authors.values_list("calls", flat=True)) == 5
    assert AuthorMiss.objects.get().name == "Nobody At All"
    assert balance(sandbox) == (5, 5)


@pytest.mark.slow
def test_a_finished_list_is_paid_for_again_only_when_somebody_says_so(sandbox: Sandbox) -> None:
    job = run(create(NAMES[:1] + NAMES[3:]))
    with pytest.raises(AlreadyFinished) as finished:
        create(["brandvold, ada", "NOBODY AT ALL"], max_pages=3)
    assert (finished.value.job, finished.value.calls_at_least, finished.value.calls_at_most) == (job, 2, 6)
    assert cancel_job(create(NAMES[:1], max_pages=1).pk).pk != job.pk, "another list"
    again = create(NAMES[:1] + NAMES[3:], again=True)
    with pytest.raises(AlreadyBegun):
        create(NAMES[:1] + NAMES[3:], again=True)
    again = run(again)
    assert states(again) == ["done", "unknown"]
    assert again.authors.get(position=1).already_fresh == again.authors.get(position=1).found > 0


@pytest.mark.slow
@pytest.mark.usefixtures("one_at_a_time")
def test_a_failed_author_does_not_end_the_job_and_a_retry_asks_for_it_again(sandbox: Sandbox) -> None:
    sandbox.add_fault("garbage", path="/author/Ada", times=1)
    job = run(create(NAMES[:1] + NAMES[2:3]))
    assert (job.state, states(job)) == ("succeeded", ["failed", "done"])
    failed = job.authors.get(position=1)
    assert (failed.reason, failed.calls) == ("isbndb_failed", 1)
    assert job_failures(job).by_reason == {"isbndb_failed": 1}
    with pytest.raises(AlreadyBegun):
        create(NAMES[:1] + NAMES[2:3])
    job = run(retry_job(job.pk))
    assert (job.state, job.done, states(job)) == ("succeeded", 2, ["done", "done"])
    assert job.authors.get(position=1).calls == 2
    assert balance(sandbox) == (3, 3)


@pytest.mark.slow
@pytest.mark.usefixtures("one_at_a_time")
def test_failures_in_a_row_end_the_turn_and_authors_that_failed_come_last(sandbox: Sandbox, monkeypatch) -> None:
    monkeypatch.setattr(authors, "MAX_FAILURES_IN_A_ROW", 2)
    sandbox.add_fault("garbage", path="/author", times=2)
    job = run(create([NAMES[0], NAMES[3], NAMES[2]]))
    assert (job.state, job.stopped_reason, job.done, job.failures) == ("waiting", "isbndb_failed", 2, 1)
    assert states(job) == ["failed", "failed", "pending"]
    job = run(retry_job(cancel_job(job.pk).pk))
    assert [request["path"].rpartition("/")[2] for request in sandbox.requests][2:] == [
        "Aldous%20Huxley",
        "Ada%20Brandvold",
        "Nobody%20At%20All",
    ]
    assert states(job) == ["done", "unknown", "done"]


def test_what_is_to_do_is_known_in_its_order_before_a_retry_makes_it_pending() -> None:
    job = create(list("ABCDEFGH"), max_pages=2)
    rows: dict[str, dict[str, Any]] = {
        "A": {"state": "failed", "reason": "isbndb_failed", "calls": 3},
        "B": {"state": "cut", "reason": "max_pages", "progress": {"start_page": 2}, "calls": 9},
        "C": {"state": "done"},
        "D": {"state": "failed", "reason": "isbndb_failed", "calls": 1},
        "E": {"state": "cut", "reason": "max_pages", "progress": {"start_page": 3}},
        "F": {"state": "cut", "reason": "isbndb_ceiling"},
        "G": {"state": "pending"},
        "H": {"state": "failed", "reason": "isbndb_failed", "calls": 1},
    }
    for name, row in rows.items():
        job.authors.filter(name=name).update(**row)
    before = [author.name for author in authors.authors_to_do(job)]
    authors.Kind(job).reset_failed()
    assert before == [author.name for author in authors.authors_to_do(job)] == ["B", "G", "D", "H", "A"]
    assert not job.authors.exclude(state="pending").exclude(name__in="CEF").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("one_at_a_time")
def test_a_job_that_is_paused_between_two_pages_goes_on_with_the_missing_one(sandbox: Sandbox) -> None:
    job = create([catalogue.MORE_THAN_1000])
    during_request(sandbox, 1, lambda: pause_job(job.pk))
    paused = run(job)
    assert (paused.state, paused.stopped_reason, states(paused)) == ("paused", "paused", ["pending"])
    assert run(job).state == "paused", "no worker takes it"
    resumed = run(resume_job(job.pk))
    assert (resumed.state, resumed.authors.get().found, resumed.authors.get().pages) == ("succeeded", 1432, 2)
    assert balance(sandbox) == (2, 2)
    with pytest.raises(JobNotPaused):
        resume_job(create(NAMES[:1]).pk)


def test_when_a_pause_is_taken_back_in_time_the_job_is_put_back_and_not_cancelled(monkeypatch) -> None:
    job = create(NAMES[:1])
    claimed = claims.claim_next()
    assert claimed is not None
    pause_job(job.pk)
    stop = ending.stop_as_requested

    def too_late(stopped: Job) -> bool:
        resume_job(job.pk)
        return stop(stopped)

    monkeypatch.setattr(ending, "stop_as_requested", too_late)
    assert ending.put_back_or_stop(claimed, state=Job.State.QUEUED, resume_at=QuotaNow())
    assert (Job.objects.get().state, Job.objects.get().runner) == ("queued", None)


def test_a_list_whose_later_job_goes_on_is_not_retried_by_an_earlier_one() -> None:
    first = cancel_job(create(NAMES[:1]).pk)
    later = create(NAMES[:1], again=True)
    with pytest.raises(AlreadyBegun) as begun:
        retry_job(first.pk)
    assert begun.value.job == later
    cancel_job(later.pk)
    assert retry_job(first.pk).state == "queued"


@pytest.mark.slow
@pytest.mark.usefixtures("one_at_a_time")
def test_an_author_that_was_cut_goes_on_with_the_next_page_when_more_are_wanted(sandbox: Sandbox) -> None:
    job = run(create([catalogue.MORE_THAN_1000], max_pages=1))
    author = job.authors.get()
    assert (author.state, author.reason, author.pages, author.found) == ("cut", "max_pages", 1, 1000)
    job.wanted["max_pages"] = 2
    job.save(update_fields=["wanted"])
    job = run(retry_job(job.pk))
    author = job.authors.get()
    assert (author.state, author.reason, author.pages, author.found) == ("done", "", 2, 1432)
    assert balance(sandbox) == (2, 2)


def test_authors_whom_isbndb_recently_did_not_know_cost_no_call(sandbox: Sandbox) -> None:
    run(create(["Nobody At All"]))
    job = run(create(["Nobody At All"], again=True))
    assert (job.state, states(job), (job.result or {})["api_calls"]) == ("succeeded", ["unknown"], 0)
    assert len(sandbox.requests) == 1


def test_every_kind_has_a_handler() -> None:
    for kind in Job.Kind:
        handler = handler_of(Job(kind=kind))  # an incomplete one cannot be made
        assert (bool(handler.UNIT), bool(handler.OPERATION)) == (True, True)
