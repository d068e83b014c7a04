"""Whose job a worker takes: consumers take turns, and one without a running job does not wait for a turn's end."""

import threading
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connection

from alexandria.development.sandbox.server import Sandbox
from enrichment.jobs import claims, workers
from enrichment.jobs.lifecycle import create_job
from enrichment.jobs.registry import Handler, handler_of
from enrichment.jobs.workers import run_job
from enrichment.models import Job
from quota.models import Call, Consumer
from tests.enrichment.jobs.test_jobs import during_request
from tests.fixtures import balance, known_isbns

KNOWN = known_isbns(91)
UNDER_WAY = 4

pytestmark = pytest.mark.usefixtures("consumer", "sandbox")


@pytest.fixture(autouse=True)
def small_batches(settings, monkeypatch) -> None:
    settings.ISBNDB_BATCH_SIZE, settings.QUOTA_MAX_RPS = 3, 50
    monkeypatch.setattr("enrichment.gateway.asking.MAX_UNDER_WAY", UNDER_WAY)
    monkeypatch.setattr(workers, "MIN_TURN", timedelta())
    monkeypatch.setattr(workers, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr("enrichment.selectors.books.JUST_NOW", timedelta())


def create(slug: str, isbns: list[str]) -> Job:
    consumer, _ = Consumer.objects.get_or_create(slug=slug)
    return create_job(consumer=consumer, kind=Job.Kind.BATCH_DIRECT, wanted={"isbns": isbns, "refresh": True})


def run_jobs() -> None:
    while Job.objects.filter(state="queued").exists():
        run_job()
    assert set(Job.objects.values_list("state", flat=True)) == {"succeeded"}


def is_asked_for_meanwhile(sandbox: Sandbox, newcomer: list[str], *, seconds: float) -> bool:
    """Whether ISBNdb gets the request of a newcomer while it answers no other one, for so many seconds at most.

    The job of the newcomer is created when the large job has as many requests under way as it may have.
    """
    asked = threading.Event()
    meet, numbers = sandbox.faults.meet, iter(range(1, 1000))
    found: list[bool] = []

    def met(path: str) -> Any:
        if next(numbers) == UNDER_WAY:
            create("other", newcomer)
            connection.close()  # the connection of the sandbox's thread
        if any(request["asked"] == len(newcomer) for request in sandbox.requests):
            asked.set()
        found.append(asked.wait(0 if False in found else seconds))
        return meet(path)

    create("reader", KNOWN[:30])
    with patch.object(sandbox.faults, "meet", met):
        run_jobs()
    return all(found)


@pytest.mark.slow
def test_a_newcomer_waits_for_nothing_that_is_under_way(sandbox: Sandbox) -> None:
    assert is_asked_for_meanwhile(sandbox, KNOWN[90:], seconds=60)
    assert balance(sandbox)[0] == balance(sandbox)[1]


@pytest.mark.slow
def test_without_the_thread_for_newcomers_it_does(sandbox: Sandbox) -> None:
    with patch.object(workers, "claim_newcomer", return_value=None):
        assert not is_asked_for_meanwhile(sandbox, KNOWN[90:], seconds=1)


@pytest.mark.slow
def test_the_turn_of_a_newcomer_ends_with_the_job_beside_it(sandbox: Sandbox, monkeypatch) -> None:
    """Otherwise a worker whose own job has ended would work on the newcomer's alone, and take none in turn."""
    asked, ended = threading.Event(), threading.Event()
    meet, join, numbers = sandbox.faults.meet, threading.Thread.join, iter(range(1, 1000))

    def met(path: str) -> Any:
        if next(numbers) == 1:
            create("other", KNOWN[:90])
            connection.close()  # the connection of the sandbox's thread
            asked.wait(60)
        else:
            asked.set()
            ended.wait(60)
        return meet(path)

    def tell(thread: threading.Thread, timeout: float | None = None) -> None:
        if thread.name == "newcomers":
            ended.set()
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", tell)
    monkeypatch.setattr(sandbox.faults, "meet", met)
    create("reader", KNOWN[90:])
    run_job()
    newcomer = Job.objects.get(consumer__slug="other")
    assert Job.objects.get(consumer__slug="reader").state == "succeeded"
    assert newcomer.state == "queued"
    assert 0 < newcomer.done <= 3 * UNDER_WAY


def consumers_asked_for(sandbox: Sandbox) -> list[str]:
    """The consumers of all requests, in order. The first has a large job, the second comes during its second request
    with another, and the third with a single ISBN during the sixth."""
    create("reader", KNOWN[:90])
    during_request(sandbox, 2, lambda: create("second", KNOWN[:30]))
    during_request(sandbox, 6, lambda: create("third", KNOWN[90:]))
    run_jobs()
    return list(Call.objects.order_by("send_at").values_list("consumer__slug", flat=True))


@pytest.mark.slow
def test_a_newcomer_gives_way_to_the_next_one(sandbox: Sandbox) -> None:
    consumers = consumers_asked_for(sandbox)
    assert consumers.index("third") < len(consumers) - consumers[::-1].index("second") - 1


@pytest.mark.slow
def test_without_giving_way_the_next_newcomer_waits_for_the_turn_of_the_first(sandbox: Sandbox, monkeypatch) -> None:
    monkeypatch.setattr(workers, "MIN_TURN", workers.TURN)
    assert "second" not in (consumers := consumers_asked_for(sandbox))[consumers.index("third") :]


def test_a_newcomer_that_crashes_is_logged_and_does_no_harm_to_the_job_beside_it(
    sandbox: Sandbox, monkeypatch, caplog: pytest.LogCaptureFixture
) -> None:
    crashed = threading.Event()

    def fail_for_the_newcomer(job: Job) -> Handler:
        if job.consumer.slug == "reader":
            return handler_of(job)
        crashed.set()
        raise RuntimeError("wrong")

    monkeypatch.setattr(workers, "handler_of", fail_for_the_newcomer)
    during_request(sandbox, 1, lambda: crashed.wait(60))
    job, newcomer = create("reader", KNOWN[:9]), create("other", KNOWN[90:])
    run_job()
    job.refresh_from_db()
    newcomer.refresh_from_db()
    assert (job.state, job.done, newcomer.state) == ("succeeded", 9, "running")
    crashes = [record.getMessage() for record in caplog.records if "job.crashed" in record.getMessage()]
    assert [str(newcomer.pk) in message for message in crashes] == [True]


@pytest.mark.parametrize("in_the_end", [False, True], ids=["during a job", "while it waits for the newcomer"])
def test_a_worker_that_is_told_to_end_stores_the_answers_of_the_newcomer(
    sandbox: Sandbox, monkeypatch, in_the_end: bool
) -> None:
    job, arrived, interrupted = create("other", KNOWN[:90]), threading.Event(), threading.Event()
    join = threading.Thread.join

    def interrupt(thread: threading.Thread, timeout: float | None = None) -> None:
        if in_the_end and thread.name == "newcomers" and not interrupted.is_set():
            interrupted.set()
            raise SystemExit
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupt)
    during_request(sandbox, 1, arrived.set)
    with pytest.raises(SystemExit), workers._newcomers_beside():
        assert arrived.wait(60)
        if not in_the_end:
            raise SystemExit
    job.refresh_from_db()
    assert (job.state, job.done) == ("queued", 3 * len(sandbox.requests))
    assert balance(sandbox) == (len(sandbox.requests), len(sandbox.requests))


def test_consumers_take_turns_and_the_jobs_of_one_too() -> None:
    jobs = [create("reader", KNOWN[:3]), create("reader", KNOWN[:3]), create("other", KNOWN[:3])]
    order = []
    for _ in range(6):
        job = claims.claim_next()
        assert job is not None
        order.append(jobs.index(job))
        workers._put_back(job)
    assert order == [0, 2, 1, 2, 0, 2]


def test_a_job_of_a_command_is_never_given_to_a_worker() -> None:
    create("reader", KNOWN[:3])
    Job.objects.update(attended=True)
    assert claims.claim_next() is None
    assert claims.claim_newcomer() is None


def test_a_consumer_with_a_running_job_is_no_newcomer() -> None:
    create("other", KNOWN[:3])
    create("other", KNOWN[:3])
    first = claims.claim_newcomer()
    assert first is not None
    assert first.consumer.slug == "other"
    assert claims.claim_newcomer() is None
