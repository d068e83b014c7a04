"""Running jobs: steps, claims, waiting, failing, cancelling, retrying, and the calls they spend."""

import os
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest.mock import Mock
from urllib.parse import unquote

import pytest
import redis
from django.db import IntegrityError, InterfaceError, connection, transaction

from alexandria.common import heartbeats
from alexandria.common.publishing import messages_waiting
from alexandria.development.sandbox import catalogue
from alexandria.development.sandbox.server import Sandbox
from enrichment.exceptions import IsbndbUnavailable, JobEnded, NothingToRetry
from enrichment.jobs import claims, workers
from enrichment.jobs.kinds import batch_direct
from enrichment.jobs.lifecycle import cancel_job, create_job, pause_job, resume_job, resume_jobs, retry_job
from enrichment.jobs.workers import run_job
from enrichment.models import Author, AuthorMiss, Edition, Job, JobItem
from enrichment.models.queue import MAX_ATTEMPTS
from enrichment.selectors.jobs import job_calls_left, job_eta, job_failures
from enrichment.services.bibliographies import enrich_bibliography
from enrichment.services.enrich import add_answer, enrich_isbns
from enrichment.services.releases import Wanted, read_token
from harvest.crons.registry import PLAIN_TASKS, Every
from quota.exceptions import QuotaRefused, QuotaUnavailable
from quota.models import Call, Consumer, Reservation, Switches
from quota.selectors.status import calls_spent
from quota.services import reservations
from tests.fixtures import (
    NOON,
    SetClock,
    a_minute_passes,
    balance,
    database_away,
    known_isbns,
    stop_database_clock,
    unknown_isbns,
)
from tests.processes import wait_until

KNOWN = known_isbns(9)
UNKNOWN = unknown_isbns(2)

pytestmark = pytest.mark.usefixtures("consumer", "sandbox", "one_at_a_time")


@pytest.fixture(autouse=True)
def three_isbns_a_call(settings) -> None:
    settings.ISBNDB_BATCH_SIZE = 3


def create(kind: Job.Kind = Job.Kind.BATCH_DIRECT, *, on_exhausted: str = "fail", **wanted: Any) -> Job:
    return create_job(
        consumer=Consumer.objects.get(slug="reader"),
        kind=kind,
        wanted=wanted,
        on_exhausted=Job.OnExhausted(on_exhausted),
    )


def run(job: Job) -> Job:
    run_job()
    return Job.objects.get(pk=job.pk)


def resume_and_run(job: Job, *, resumed: int = 1) -> Job:
    """Does what the periodic task and then a worker do."""
    assert resume_jobs() == resumed
    return run(job)


def outcome(job: Job) -> dict[str, Any]:
    assert job.result is not None
    return job.result


def states(job: Job) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in job.items.all():
        found.setdefault(item.state, []).append(item.isbn)
    return found


def asked(sandbox: Sandbox) -> list[int | None]:
    return [request["asked"] for request in sandbox.requests]


def during_request(sandbox: Sandbox, number: int, do: Callable[[], object]) -> None:
    """Calls `do` while ISBNdb works on the request of that number, counted from 1."""
    meet, numbers = sandbox.faults.meet, iter(range(1, 1000))

    def met(path: str) -> Any:
        if next(numbers) == number:
            do()
            connection.close()  # the connection of the sandbox's thread
        return meet(path)

    sandbox.faults.meet = met


def set_both_clocks(moment: datetime, sandbox: Sandbox) -> None:
    """Sets ISBNdb's clock, and stops ours there, so that a test may take long."""
    stop_database_clock(moment)
    sandbox.set_clock(offset_seconds=(moment - datetime.now(UTC)).total_seconds())


def test_a_job_asks_for_unknown_isbns_in_full_batches_and_accounts_for_every_value(sandbox: Sandbox) -> None:
    enrich_isbns([KNOWN[1], KNOWN[4], UNKNOWN[0]], consumer="reader")
    job = create(isbns=[*KNOWN[:7], *UNKNOWN, KNOWN[0], "978-0-00-000000-3", "no\0ne"], source="shelf", refresh=False)
    assert (job.state, job.done, job.total) == ("queued", 0, 9)
    job = run(job)
    assert (job.state, job.done, job.total, job.stopped_reason, job.runner) == ("succeeded", 9, 9, "", None)
    assert asked(sandbox) == [3, 3, 3]
    assert states(job) == {
        "enriched": [KNOWN[0], KNOWN[2], KNOWN[3], KNOWN[5], KNOWN[6]],
        "already_fresh": [KNOWN[1], KNOWN[4]],
        "not_found": UNKNOWN,
        "duplicate": [KNOWN[0]],
        "invalid": ["978-0-00-000000-3", "none"],
    }
    assert job.result == {
        "requested": 12,
        "valid": 9,
        "enriched": 5,
        "created": 5,
        "updated": 0,
        "unchanged": 0,
        "already_fresh": 2,
        "not_found": 2,
        "failed": 0,
        "duplicates": 1,
        "invalid": 2,
        "notes": [],
        "api_calls": 2,
    }
    assert set(Reservation.objects.exclude(source="").values_list("source", "calls")) == {(f"job:{job.pk}", 1)}
    assert calls_spent(source=job.source) == 2
    assert balance(sandbox) == (3, 3)
    run(job)
    assert len(sandbox.requests) == 3, "a job that has ended is not run again"


@pytest.fixture
def by_isbn(settings, sandbox: Sandbox) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    sandbox.set_plan(batch_price="isbn")


@pytest.mark.slow
@pytest.mark.usefixtures("by_isbn")
def test_by_the_isbn_a_job_with_refresh_takes_the_listings_of_authors_first(sandbox: Sandbox) -> None:
    for author in ("Ada Brandvold", "Aldous Huxley"):
        enrich_bibliography(author, consumer="reader")
    isbns = [*Edition.objects.order_by("pk").values_list("pk", flat=True), KNOWN[0], *UNKNOWN]
    Edition.objects.filter(pk__in=isbns[:2]).update(content_hash="0" * 32)
    a_minute_passes()
    before, calls = len(sandbox.requests), sandbox.spent
    job = run(create(isbns=isbns, refresh=True))
    assert (job.state, job.done, job.total) == ("succeeded", len(isbns), len(isbns))
    result = outcome(job)
    assert result["enriched"] + result["already_fresh"] == len(isbns) - 2, "one listing can bring books of another"
    assert (result["created"], result["updated"], result["not_found"], result["failed"]) == (1, 2, 2, 0)
    paths = [unquote(request["path"]) for request in sandbox.requests[before:]]
    assert {path for path in paths if path != "/books"} == {"/author/Ada Brandvold", "/author/Aldous Huxley"}
    assert len(paths) < 6, "the listings have all books but three, whichever batch they are in"
    assert calls_spent(source=job.source) == 2 + sum(count or 0 for count in asked(sandbox)[before:])
    assert balance(sandbox)[0] == balance(sandbox)[1] < calls + 10


@pytest.mark.slow
@pytest.mark.usefixtures("by_isbn")
def test_a_job_lists_an_author_that_brought_nothing_only_once(sandbox: Sandbox) -> None:
    enrich_bibliography("Ada Brandvold", consumer="reader")
    Author.objects.filter(name="Ada Brandvold").update(name=catalogue.FULL_PAGES_WITHOUT_TOTAL)
    isbns = list(Edition.objects.values_list("pk", flat=True))
    a_minute_passes()
    calls = sandbox.spent
    job = run(create(isbns=isbns, refresh=True))
    assert outcome(job)["enriched"] == len(isbns)
    assert sandbox.spent == calls + len(isbns) + 1


@pytest.mark.slow
@pytest.mark.usefixtures("by_isbn")
def test_a_job_waits_after_a_listing_that_fails_and_goes_on_without_it(sandbox: Sandbox) -> None:
    enrich_bibliography("Ada Brandvold", consumer="reader")
    isbns = list(Edition.objects.values_list("pk", flat=True))
    a_minute_passes()
    sandbox.add_fault("garbage", path="/author", times=1)
    job = run(create(isbns=isbns, refresh=True))
    assert (job.state, job.failures, job.done) == ("waiting", 1, 0)
    assert job.progress["disappointing"] == ["Ada Brandvold"]
    Job.objects.update(resume_at=NOON)
    job = resume_and_run(job)
    assert (job.state, outcome(job)["enriched"]) == ("succeeded", len(isbns))


@pytest.mark.slow
def test_a_job_with_refresh_asks_for_every_isbn(sandbox: Sandbox) -> None:
    enrich_isbns(KNOWN[:3], consumer="reader")
    a_minute_passes()
    job = run(create(isbns=[*KNOWN[:3], "x"], refresh=True))
    assert (outcome(job)["enriched"], outcome(job)["created"], outcome(job)["api_calls"]) == (3, 0, 1)
    job = run(create(isbns=[*KNOWN[:3]], refresh=True))
    assert (outcome(job)["already_fresh"], outcome(job)["api_calls"]) == (3, 0), "ISBNdb was asked within a minute"
    assert balance(sandbox) == (2, 2)


def test_a_job_without_a_valid_isbn_succeeds_at_once_and_costs_nothing(sandbox: Sandbox) -> None:
    job = run(create(isbns=["x", "12", ""]))
    assert (job.state, outcome(job)["invalid"], sandbox.requests) == ("succeeded", 2, [])


def run_at_once() -> None:
    """Lets two workers ask for a job at the same moment."""
    start = threading.Barrier(2, timeout=60)

    def runner(_: int) -> None:
        try:
            start.wait()
            run_job()
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(runner, range(2)))


def test_one_of_two_runners_gets_the_job_and_without_the_claim_both_would(sandbox: Sandbox, monkeypatch) -> None:
    both_in = threading.Barrier(2, timeout=60)
    meet = sandbox.faults.meet

    def unclaimed() -> Job:
        """A wrong claim: it reads the state and then writes, without checking that the state is the same."""
        queued = Job.objects.get(state="queued")
        both_in.wait()
        runner = uuid.UUID(int=1)
        Job.objects.filter(pk=queued.pk).update(
            state="running", runner=runner, lease_until=NOON + timedelta(days=1), started_at=NOON, resume_at=None
        )
        return Job.objects.select_related("consumer").get(pk=queued.pk)

    def met_together(path: str) -> Any:
        both_in.wait()
        return meet(path)

    with monkeypatch.context() as patched:
        patched.setattr(workers, "claim_next", unclaimed)
        sandbox.faults.meet = met_together
        create(isbns=KNOWN[:3])
        run_at_once()
        assert asked(sandbox) == [3, 3]

    sandbox.faults.meet = meet
    job = create(isbns=KNOWN[3:6])
    run_at_once()
    assert asked(sandbox) == [3, 3, 3]
    assert outcome(Job.objects.get(pk=job.pk))["enriched"] == 3


def test_a_runner_that_loses_its_claim_writes_no_more_and_the_next_one_finishes(
    sandbox: Sandbox, set_clock: SetClock
) -> None:
    job = create(isbns=KNOWN)

    def takes_over() -> None:
        set_clock(NOON + 2 * heartbeats.LEASE)
        assert resume_jobs() == 1

    during_request(sandbox, 2, takes_over)
    job = run(job)
    assert (job.state, job.runner, job.done) == ("queued", None, 3)
    job = run(job)
    assert (job.state, job.done, len(states(job)["enriched"]), len(states(job)["already_fresh"])) == (
        "succeeded",
        9,
        6,
        3,
    )
    assert asked(sandbox) == [3, 3, 3]
    assert outcome(job)["api_calls"] == 3
    assert balance(sandbox) == (3, 3)


def test_a_job_that_waits_for_quota_continues_after_midnight(sandbox: Sandbox, settings) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 3, 1
    job = run(create(isbns=KNOWN, on_exhausted="wait"))
    midnight = datetime(2026, 5, 6, tzinfo=UTC)
    assert (job.state, job.done, job.stopped_reason, job.runner) == ("waiting", 6, "safety_limit", None)
    assert job.resume_at is not None
    schedule = PLAIN_TASKS["resume-jobs"].schedule
    assert isinstance(schedule, Every)
    sweep = timedelta(seconds=schedule.seconds)
    assert timedelta(seconds=2) <= job.resume_at - midnight <= timedelta(seconds=10) - sweep
    eta = job_eta(Job.objects.select_related("consumer").get())
    assert eta is not None
    assert eta >= job.resume_at
    assert balance(sandbox) == (2, 2)

    resume_and_run(job, resumed=0)
    set_both_clocks(job.resume_at - timedelta(seconds=1), sandbox)
    assert resume_and_run(job, resumed=0).state == "waiting"
    set_both_clocks(job.resume_at, sandbox)
    job = resume_and_run(job)
    assert (job.state, job.done, job.stopped_reason, outcome(job)["api_calls"]) == ("succeeded", 9, "", 3)
    assert balance(sandbox) == (1, 1)
    assert calls_spent(source=job.source) == 3


@pytest.mark.slow
def test_a_job_that_does_not_wait_fails_with_a_partial_result_and_a_retry_does_the_rest(sandbox: Sandbox) -> None:
    during_request(sandbox, 2, lambda: reservations.increment(13_000))
    job = run(create(isbns=[*KNOWN, *UNKNOWN]))
    assert (job.state, job.stopped_reason, job.done) == ("failed", "safety_limit", 6)
    assert (outcome(job)["enriched"], outcome(job)["failed"], outcome(job)["api_calls"]) == (6, 5, 2)
    assert states(job)["failed"] == [*KNOWN[6:], *UNKNOWN]
    failures = job_failures(job)
    assert failures.by_reason == {job.error: 5}
    assert "All calls of today are used or reserved." in job.error

    set_both_clocks(NOON + timedelta(days=1), sandbox)
    job = run(retry_job(job.pk))
    assert (job.state, job.done, job.error, job.stopped_reason) == ("succeeded", 11, "", "")
    assert asked(sandbox) == [3, 3, 3, 2]
    assert (outcome(job)["enriched"], outcome(job)["not_found"], outcome(job)["api_calls"]) == (9, 2, 4)
    assert balance(sandbox) == (2, 2)
    with pytest.raises(NothingToRetry):
        retry_job(job.pk)


@pytest.mark.parametrize("refresh", [False, True])
def test_by_the_isbn_a_job_takes_the_free_calls_to_the_last_one(sandbox: Sandbox, settings, *, refresh: bool) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    sandbox.set_plan(batch_price="isbn")
    Consumer.objects.update(daily_budget=4)
    enrich_isbns(KNOWN[:1], consumer="reader")
    job = create(isbns=KNOWN[:8], on_exhausted="wait", refresh=refresh)
    assert job_calls_left(job) == 8
    job = run(job)
    assert (job.state, job.stopped_reason, job.resume_at is not None) == ("waiting", "daily_budget", True)
    assert asked(sandbox) == [1, 3], "three calls were left, which is one batch"
    set_both_clocks(NOON + timedelta(days=1), sandbox)
    job = resume_and_run(job)
    assert asked(sandbox)[2:] == [3, 1]
    assert balance(sandbox) == (4, 4)


def test_when_others_take_calls_in_the_meantime_the_next_batch_of_a_job_is_smaller(
    sandbox: Sandbox, settings, monkeypatch
) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    sandbox.set_plan(batch_price="isbn")
    Consumer.objects.update(daily_budget=2)
    with monkeypatch.context() as before:
        before.setattr(batch_direct, "batch_size_for", lambda consumer: 3)
        job = run(create(isbns=KNOWN[:3]))
    assert (job.state, job.stopped_reason, sandbox.requests) == ("waiting", "daily_budget", [])
    assert job.resume_at is not None
    set_both_clocks(job.resume_at, sandbox)
    job = resume_and_run(job)
    assert (job.state, job.done, asked(sandbox)) == ("failed", 2, [2])
    assert balance(sandbox) == (2, 2)


def test_a_job_of_a_consumer_without_a_budget_fails_instead_of_waiting(sandbox: Sandbox) -> None:
    Consumer.objects.update(daily_budget=0)
    job = run(create(isbns=KNOWN, on_exhausted="wait"))
    assert (job.state, job.stopped_reason) == ("failed", "daily_budget")
    assert sandbox.requests == []


def test_midnight_pauses_every_job_for_seconds_only(sandbox: Sandbox) -> None:
    set_both_clocks(datetime(2026, 5, 5, 23, 59, 59, tzinfo=UTC), sandbox)
    job = run(create(isbns=KNOWN[:3]))
    assert (job.state, job.stopped_reason, sandbox.requests) == ("waiting", "midnight", [])
    assert job.resume_at is not None
    set_both_clocks(job.resume_at, sandbox)
    assert resume_and_run(job).state == "succeeded"
    assert balance(sandbox) == (1, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("no_waits")
def test_when_isbndb_fails_the_job_tries_again_later_and_fails_after_all_attempts(sandbox: Sandbox) -> None:
    during_request(sandbox, 2, lambda: sandbox.add_fault("status", status=503))
    job = create(isbns=KNOWN[:6])
    moment = NOON
    for seconds in (30, 60, 120, 240, 480, 900, 900):
        pause = timedelta(seconds=seconds)
        job = run(job)
        assert (job.state, job.stopped_reason, job.done) == ("waiting", "isbndb_failed", 3)
        assert job.resume_at is not None
        assert pause <= job.resume_at - moment <= pause + timedelta(seconds=60)
        moment = job.resume_at
        set_both_clocks(moment, sandbox)
        assert resume_jobs() == 1
    job = run(job)
    assert (job.state, job.stopped_reason, job.error) == ("failed", "isbndb_failed", "ISBNdb failed with status 503.")
    assert states(job)["failed"] == KNOWN[3:6]
    spent = calls_spent(source=job.source)
    assert (outcome(job)["api_calls"], len(sandbox.requests)) == (spent, spent)
    assert balance(sandbox) == (spent, spent)
    sandbox.clear_faults()
    assert run(retry_job(job.pk)).state == "succeeded"


def test_a_job_waits_shortly_for_calls_that_others_have_only_reserved(sandbox: Sandbox, settings) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 20, 10
    Consumer.objects.create(slug="other")
    reservation = reservations.reserve(consumer="other", operation="new-releases", calls=10)
    jobs = [run(create(isbns=KNOWN[:2])), run(create(isbns=KNOWN[2:4], on_exhausted="wait"))]
    for job in jobs:
        assert (job.state, job.stopped_reason, job.failures) == ("waiting", "safety_limit", 0)
        assert job.resume_at is not None
        assert timedelta(seconds=15) <= job.resume_at - NOON <= timedelta(seconds=30)
    reservations.settle(reservation)
    moment = NOON + timedelta(seconds=120)
    set_both_clocks(moment, sandbox)
    assert resume_jobs() == 2
    assert [run(job).state for job in jobs] == ["succeeded", "succeeded"]

    Consumer.objects.filter(slug="reader").update(daily_budget=2)
    assert run(create(isbns=KNOWN[4:6])).state == "failed", "its own budget is spent, and calls of others do not help"


@pytest.mark.slow
def test_a_slowed_fleet_and_an_unreachable_quota_cost_no_attempt(sandbox: Sandbox, monkeypatch) -> None:
    monkeypatch.setattr("enrichment.gateway.asking.MAX_PACE_WAIT", timedelta())
    reservations.open_ledger()
    job, moment = create(isbns=KNOWN[:2]), NOON
    for _ in range(MAX_ATTEMPTS + 1):
        reservations.slow_down(seconds=900)
        job = run(job)
        assert (job.state, job.stopped_reason, job.failures) == ("waiting", "fleet_busy", 0)
        assert job.resume_at is not None
        assert timedelta(seconds=895) < job.resume_at - moment < timedelta(seconds=930)
        moment = job.resume_at
        set_both_clocks(moment, sandbox)
        assert resume_jobs() == 1
    with monkeypatch.context() as patched:
        patched.setattr("quota.services.reservations.ask", Mock(side_effect=QuotaUnavailable("gone")))
        job = run(job)
    assert (job.state, job.stopped_reason, job.failures) == ("waiting", "quota_unavailable", 0)
    set_both_clocks(moment + timedelta(minutes=20), sandbox)
    assert resume_and_run(job).state == "succeeded"
    assert balance(sandbox) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("failure", [InterfaceError("the connection is closed"), "read-only"])
def test_a_job_waits_when_the_database_fails_or_is_read_only(
    failure: Exception | str, sandbox: Sandbox, monkeypatch
) -> None:
    def store(*args: object) -> None:
        if isinstance(failure, Exception):
            raise failure
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            cursor.execute("DELETE FROM enrichment_edition")

    job = bibliography("Andy Weir")
    with monkeypatch.context() as patched:
        patched.setattr("enrichment.services.listings.store_books", store)
        patched.setattr("enrichment.books.aside.PATIENCE", timedelta())
        job = run(job)
    assert (job.state, job.stopped_reason, job.failures) == ("waiting", "database_unavailable", 1)
    assert job.error == "The database is out of reach."
    assert job.resume_at is not None
    set_both_clocks(job.resume_at, sandbox)
    assert resume_and_run(job).state == "succeeded"


def test_a_refused_isbndb_key_or_an_inactive_consumer_fails_the_job_at_once(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=401, times=1)
    job = run(create(isbns=KNOWN[:3], on_exhausted="wait"))
    assert (job.state, job.stopped_reason, len(sandbox.requests)) == ("failed", "isbndb_failed", 1)
    Consumer.objects.update(active=False)
    job = run(create(isbns=KNOWN[:3], on_exhausted="wait"))
    assert (job.state, job.stopped_reason, len(sandbox.requests)) == ("failed", "switched_off", 1)
    Consumer.objects.update(active=True, kind="cron")
    Switches.objects.create(harvest_enabled=False)
    assert run(retry_job(job.pk)).stopped_reason == "switched_off"


def test_a_job_fails_when_one_step_kills_too_many_workers(sandbox: Sandbox, set_clock: SetClock, monkeypatch) -> None:
    class Killed(BaseException):
        pass

    def die(*args: Any, **options: Any) -> None:
        raise Killed

    monkeypatch.setattr("enrichment.jobs.kinds.batch_direct.add_answer", die)
    job = create(isbns=KNOWN[:3])
    for attempt in range(1, workers.MAX_DEATHS + 1):
        with pytest.raises(Killed):
            run(job)
        assert resume_jobs() == 0, "the lease has not expired yet"
        set_clock(NOON + attempt * 2 * heartbeats.LEASE)
        assert resume_jobs() == 1
    job = run(job)
    assert (job.state, job.stopped_reason) == ("failed", "crashed")


@pytest.mark.slow
def test_after_an_answer_the_failures_of_a_job_count_from_0(sandbox: Sandbox, monkeypatch) -> None:
    monkeypatch.setattr(workers, "TURN", timedelta())
    sandbox.add_fault("status", status=503, times=3)
    job = run(create(isbns=KNOWN[:6]))
    assert (job.state, job.failures, job.done) == ("waiting", 1, 0)
    Job.objects.update(resume_at=NOON)
    job = resume_and_run(job)
    assert (job.state, job.failures, job.done) == ("queued", 0, 3)


@pytest.mark.slow
def test_workers_that_die_after_an_answer_do_not_end_a_job(
    sandbox: Sandbox, set_clock: SetClock, settings, monkeypatch
) -> None:
    class Killed(BaseException):
        pass

    settings.ISBNDB_BATCH_SIZE = 1
    job = create(isbns=KNOWN[: workers.MAX_DEATHS + 2])
    answers = iter(range(1000))

    def die_at_every_second_answer(*args: Any, **options: Any) -> Any:
        if next(answers) % 2:
            raise Killed
        return add_answer(*args, **options)

    monkeypatch.setattr("enrichment.jobs.kinds.batch_direct.add_answer", die_at_every_second_answer)
    for death in range(1, workers.MAX_DEATHS + 2):
        with pytest.raises(Killed):
            run(job)
        set_clock(NOON + death * 2 * heartbeats.LEASE)
        assert resume_jobs() == 1
    assert run(job).state == "succeeded"


def test_a_job_that_a_person_resumes_or_retries_has_all_its_attempts(sandbox: Sandbox) -> None:
    job = pause_job(create(isbns=KNOWN[:3]).pk)
    Job.objects.update(attempts=3, failures=7)
    resumed = resume_job(job.pk)
    assert (resumed.attempts, resumed.failures) == (0, 0)
    sandbox.add_fault("status", status=401, times=1)
    run(job)
    Job.objects.update(attempts=3, failures=7)
    retried = retry_job(job.pk)
    assert (retried.attempts, retried.failures) == (0, 0)


@pytest.mark.parametrize(
    ("retry_after", "failures", "seconds"), [(None, 1, 30), (600.0, 1, 600), (1.0, 6, 900), (7200.0, 1, 900)]
)
def test_a_job_waits_for_the_longer_of_its_own_pause_and_isbndbs(
    set_clock: SetClock, retry_after: float | None, failures: int, seconds: int
) -> None:
    stop_database_clock(NOON)
    job = create(isbns=KNOWN[:3])
    resume_at = workers._resume_at(job, IsbndbUnavailable("a test", retry_after=retry_after), failures)
    Job.objects.update(resume_at=resume_at)
    assert Job.objects.get().resume_at == NOON + timedelta(seconds=seconds)


@pytest.mark.slow
def test_a_long_job_gives_way_to_other_jobs(sandbox: Sandbox, monkeypatch) -> None:
    monkeypatch.setattr(workers, "TURN", timedelta())
    job = create(isbns=KNOWN)
    done = [(run(job).state, Job.objects.get().done) for _ in range(4)]
    assert done == [("queued", 3), ("queued", 6), ("queued", 9), ("succeeded", 9)]


def test_when_the_broker_has_lost_messages_so_many_are_sent_as_are_missing() -> None:
    create(isbns=KNOWN[:3])
    job = create(isbns=KNOWN[3:6])
    assert (messages_waiting(claims.QUEUE), resume_jobs()) == (2, 0)
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as broker:
        broker.delete(claims.QUEUE)
    assert (resume_jobs(), messages_waiting(claims.QUEUE)) == (2, 2)
    assert (resume_jobs(), messages_waiting(claims.QUEUE)) == (0, 2)
    run(job)
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as broker:
        broker.delete(claims.QUEUE)
    assert (resume_jobs(), messages_waiting(claims.QUEUE)) == (1, 1), "the other job is done"


def test_a_job_keeps_its_claim_while_its_runner_lives_however_long_a_request_takes(
    sandbox: Sandbox, set_clock: SetClock, monkeypatch
) -> None:
    monkeypatch.setattr(heartbeats, "HEARTBEAT", timedelta(milliseconds=10))
    job = create(isbns=KNOWN[:6])

    def take_long() -> None:
        set_clock(NOON + 2 * heartbeats.LEASE)
        wait_until(lambda: Job.objects.filter(lease_until__gt=NOON + 2 * heartbeats.LEASE).exists())
        assert resume_jobs() == 0

    during_request(sandbox, 2, take_long)
    assert (run(job).state, len(sandbox.requests)) == ("succeeded", 2)


def test_a_runner_keeps_its_claim_and_not_that_of_the_next_one(set_clock: SetClock, monkeypatch) -> None:
    monkeypatch.setattr(heartbeats, "HEARTBEAT", timedelta(milliseconds=10))
    create(isbns=KNOWN[:3])
    stop_database_clock(NOON)
    job = claims.claim_next()
    assert job is not None
    stop_database_clock(NOON + timedelta(seconds=30))
    with claims.kept(job):
        [heart] = [thread for thread in threading.enumerate() if thread.name == "heartbeats"]
        renewed = Job.objects.filter(lease_until=NOON + timedelta(seconds=30) + heartbeats.LEASE)
        assert any(renewed.exists() for _ in range(3000))
        Job.objects.update(runner=uuid.uuid4(), lease_until=NOON)
        heart.join(10)
        assert not heart.is_alive()
    with pytest.raises(claims.ClaimLost):
        claims.renew(job)
    assert Job.objects.get().lease_until == NOON


@pytest.mark.parametrize("number", [1, 3], ids=["at its beginning", "near its end"])
def test_a_job_goes_on_at_once_when_the_database_is_back_and_pays_nothing_twice(
    number: int, sandbox: Sandbox, set_clock: SetClock
) -> None:
    job = create(isbns=KNOWN)
    back = threading.Event()
    during_request(sandbox, number, lambda: threading.Thread(target=database_away, args=[1.0, back]).start())
    run_job()
    assert back.wait(60), "the worker has waited for the database"
    set_clock(NOON + timedelta(seconds=30))
    resume_jobs()
    job = run(job)
    assert (job.state, asked(sandbox)) == ("succeeded", [3, 3, 3])
    assert job.failures <= 1, "the outage can meet the end of the job, too"
    assert balance(sandbox) == (3, 3)


@pytest.mark.slow
def test_a_running_job_is_cancelled_after_its_current_call_and_a_retry_continues_it(sandbox: Sandbox) -> None:
    job = create(isbns=KNOWN)
    during_request(sandbox, 2, lambda: cancel_job(job.pk))
    job = run(job)
    assert (job.state, job.stopped_reason, job.done, len(sandbox.requests)) == ("cancelled", "cancelled", 6, 2)
    assert (outcome(job)["enriched"], outcome(job)["failed"], outcome(job)["api_calls"]) == (6, 3, 2)
    with pytest.raises(JobEnded):
        cancel_job(job.pk)
    job = run(retry_job(job.pk))
    assert (job.state, job.done, asked(sandbox)) == ("succeeded", 9, [3, 3, 3])


@pytest.mark.parametrize(
    "fault", [{"kind": "daily_limit"}, {"kind": "status", "status": 503}, {"kind": "status", "status": 401}]
)
def test_a_cancelled_job_stays_cancelled_when_its_current_call_is_refused_or_fails(
    fault: dict[str, Any], sandbox: Sandbox
) -> None:
    job = create(isbns=KNOWN, on_exhausted="wait")

    def cancel_and_fail() -> None:
        assert cancel_job(job.pk).state == "running"
        sandbox.add_fault(**fault)

    during_request(sandbox, 2, cancel_and_fail)
    job = run(job)
    assert (job.state, job.stopped_reason, job.done, outcome(job)["failed"]) == ("cancelled", "cancelled", 3, 6)


@pytest.mark.slow
def test_a_cancel_at_the_end_of_a_turn_is_not_lost(monkeypatch) -> None:
    monkeypatch.setattr(workers, "TURN", timedelta())
    job = create(isbns=KNOWN)
    save_step = claims.save_step

    def save_and_cancel(job: Job, **fields: Any) -> None:
        save_step(job, **fields)
        transaction.on_commit(lambda: cancel_job(job.pk))

    monkeypatch.setattr("enrichment.jobs.engine.save_step", save_and_cancel)
    assert (run(job).state, Job.objects.get().done) == ("cancelled", 3)


def test_a_job_that_is_not_running_is_cancelled_at_once(sandbox: Sandbox) -> None:
    job = cancel_job(create(isbns=KNOWN).pk)
    assert (job.state, outcome(job)["failed"], outcome(job)["api_calls"]) == ("cancelled", 9, 0)
    run(job)
    Consumer.objects.update(daily_budget=1)
    job = run(create(isbns=KNOWN, on_exhausted="wait"))
    assert job.state == "waiting"
    assert cancel_job(job.pk).state == "cancelled"
    assert len(sandbox.requests) == 1
    with pytest.raises(NothingToRetry):
        retry_job(create(isbns=KNOWN).pk)


def test_the_consumers_cap_applies_to_the_whole_job() -> None:
    Consumer.objects.update(cap_per_operation=2)
    with pytest.raises(QuotaRefused) as refused:
        create(isbns=KNOWN)
    assert (refused.value.limit, refused.value.asked, refused.value.free) == ("cap_per_operation", 3, 2)
    assert not Job.objects.exists()
    create(isbns=KNOWN[:6])
    Consumer.objects.update(cap_per_operation=0)
    with pytest.raises(QuotaRefused):
        create(isbns=KNOWN[:1])


def bibliography(author: str, **wanted: Any) -> Job:
    return create(Job.Kind.BIBLIOGRAPHY, author_name=author, **wanted)


@pytest.mark.slow
def test_the_books_of_an_author_are_fetched_page_by_page(sandbox: Sandbox) -> None:
    job = bibliography(catalogue.MORE_THAN_1000, max_pages=10, skip_existing=True)
    assert (job.total, job_calls_left(job)) == (10, 10)
    job = run(job)
    assert (job.state, job.done, job.total) == ("succeeded", 2, 2)
    assert job.result == {
        "author": catalogue.MORE_THAN_1000,
        "listed_at": None,
        "complete": True,
        "stopped_reason": None,
        "next_page": None,
        "books_found": 1432,
        "new": 1432,
        "changed": 0,
        "unchanged": 0,
        "already_fresh": 0,
        "failed": 0,
        "already_existed": 0,
        "enriched": 1432,
        "pages_fetched": 2,
        "api_calls": 2,
    }
    assert Edition.objects.count() == 1432
    assert balance(sandbox) == (2, 2)


def test_a_step_without_a_call_for_a_retry_waits_no_longer_than_others(sandbox: Sandbox) -> None:
    Consumer.objects.update(cap_per_operation=1)
    sandbox.add_fault("status", status=503)
    job = run(bibliography(catalogue.MORE_THAN_1000, max_pages=1))
    assert (job.state, job.stopped_reason, len(sandbox.requests)) == ("waiting", "isbndb_failed", 1)
    assert job.resume_at is not None
    assert job.resume_at < NOON + timedelta(minutes=5)


@pytest.mark.slow
def test_a_job_of_pages_continues_where_it_stopped_and_halves_pages_that_are_too_large(sandbox: Sandbox) -> None:
    job = bibliography(catalogue.PAGES_OVER_6_MB, max_pages=10)
    during_request(sandbox, 3, lambda: Consumer.objects.update(daily_budget=3))
    job = run(job)
    assert (job.state, job.stopped_reason) == ("failed", "daily_budget")
    assert not outcome(job)["complete"]
    fetched = outcome(job)["pages_fetched"]
    assert 0 < fetched == job.done < job.total
    Consumer.objects.update(daily_budget=None)
    before = len(sandbox.requests)
    job = run(retry_job(job.pk))
    assert (job.state, outcome(job)["complete"], outcome(job)["books_found"]) == (
        "succeeded",
        True,
        Edition.objects.count(),
    )
    assert outcome(job)["already_existed"] == 0, "no page was fetched twice"
    assert outcome(job)["api_calls"] == len(sandbox.requests) > before
    assert balance(sandbox) == (len(sandbox.requests), len(sandbox.requests))
    with pytest.raises(NothingToRetry):
        retry_job(job.pk)


@pytest.mark.usefixtures("plenty_left")
def test_an_author_unknown_to_isbndb_costs_one_call_only_once(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=404, times=1)
    first, second = run(bibliography("Nobody At All")), run(bibliography("Nobody At All"))
    assert [outcome(job)["complete"] for job in (first, second)] == [True, True]
    assert [outcome(job)["api_calls"] for job in (first, second)] == [1, 0]
    assert AuthorMiss.objects.get().name == "Nobody At All"
    assert balance(sandbox) == (1, 1)


@pytest.mark.slow
def test_new_releases_are_fetched_month_by_month_and_continue_with_their_token(sandbox: Sandbox) -> None:
    wanted = Wanted(date(2026, 1, 1), date(2026, 3, 1), max_pages_per_month=1)
    during_request(sandbox, 2, lambda: Consumer.objects.update(daily_budget=2))
    job = run(create(Job.Kind.NEW_RELEASES, wanted=wanted, place=None, source="months"))
    assert (job.state, job.done, job.total, job.wanted["source"]) == ("failed", 2, 3, "months")
    assert outcome(job)["months_processed"] == ["2026-01", "2026-02"]
    assert (outcome(job)["quota_exhausted"], outcome(job)["complete"]) == (True, False)

    Consumer.objects.update(daily_budget=None)
    wanted, place = read_token(outcome(job)["resume"], consumer="reader")
    rest = run(create(Job.Kind.NEW_RELEASES, wanted=wanted, place=place))
    assert (rest.state, rest.done, outcome(rest)["resume"]) == ("succeeded", 1, None)
    assert outcome(rest)["months_processed"] == ["2026-01", "2026-02", "2026-03"]
    assert run(retry_job(job.pk)).done == 3
    assert balance(sandbox) == (4, 4)
    assert Call.objects.filter(operation="new-releases").count() == 4


def test_the_database_rejects_a_job_without_the_fields_of_its_state() -> None:
    job = create(isbns=[*KNOWN[:2], "x"])
    for fields in (
        {"state": "running"},
        {"state": "succeeded"},
        {"state": "waiting", "resume_at": None},
        {"state": "asleep"},
        {"on_exhausted": "stop"},
        {"done": 3},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            Job.objects.update(**fields)
    for fields in ({"state": "pending"}, {"isbn13": KNOWN[0]}, {"isbn13": "x"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            JobItem.objects.filter(job=job).update(**fields)
