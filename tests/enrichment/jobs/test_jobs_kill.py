"""Jobs and `kill -9`: another worker finishes the job, and every call is counted."""

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from celery import signature

from alexandria.common.heartbeats import LEASE
from alexandria.development.sandbox.server import Sandbox
from enrichment.jobs.lifecycle import create_job, resume_jobs
from enrichment.jobs.workers import run_job
from enrichment.models import Asker, Edition, Job, QueuedIsbn
from enrichment.services import queue
from quota.models import Call, Consumer
from quota.selectors.status import calls_spent
from quota.services import reservations
from tests import processes
from tests.enrichment.jobs.test_jobs import during_request, outcome
from tests.fixtures import NOON, SetClock, balance, known_isbns
from tests.processes import wait_until

pytestmark = pytest.mark.slow

KNOWN = known_isbns(6)
PATIENCE = 60.0  # seconds


@pytest.fixture
def job(settings, consumer: Consumer, sandbox: Sandbox) -> Job:
    """ISBNs for three calls."""
    settings.ISBNDB_BATCH_SIZE = 2
    return create_job(consumer=consumer, kind=Job.Kind.BATCH_DIRECT, wanted={"isbns": KNOWN})


def after_the_lease(set_clock: SetClock) -> None:
    set_clock(NOON + 2 * LEASE)
    reservations.expire()


@pytest.mark.parametrize(
    ("point", "calls", "not_sent"),
    [
        ("between claim and first step", 3, 0),
        ("between dispatch and send", 4, 1),
        ("between answer and record", 4, 0),
        ("between storing and recording", 3, 0),
    ],
)
def test_after_a_kill_another_runner_finishes_the_job_with_at_most_one_extra_call(
    point: str, calls: int, not_sent: int, job: Job, sandbox: Sandbox, set_clock: SetClock
) -> None:
    command = [sys.executable, "-m", "tests.enrichment.doomed_runner", point]
    with subprocess.Popen(command, env=processes.environment(), stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "waiting\n"
        run_job()  # nothing happens: another runner has the job
        assert (resume_jobs(), Job.objects.get().state) == (0, "running")
        runner.kill()
    assert runner.returncode == -signal.SIGKILL
    after_the_lease(set_clock)
    assert resume_jobs() == 1
    run_job()
    job.refresh_from_db()
    assert (job.state, job.done) == ("succeeded", len(KNOWN))
    assert set(job.items.values_list("state", flat=True)) <= {"enriched", "already_fresh"}
    assert Edition.objects.count() == len(KNOWN)
    assert outcome(job)["api_calls"] == calls_spent(source=job.source) == calls
    assert balance(sandbox) == (calls - not_sent, calls)


def test_when_a_celery_worker_is_killed_in_a_job_another_takes_over(
    job: Job, sandbox: Sandbox, set_clock: SetClock, tmp_path: Path
) -> None:
    during_request(sandbox, 2, lambda: sandbox.add_fault("latency", seconds=30, times=1))
    worker = processes.start("jobs", tmp_path / "first.log")
    try:
        wait_until(lambda: Job.objects.get().done == 4, worker)  # the third batch overtakes the second
    finally:
        processes.kill(worker)
    job.refresh_from_db()
    assert (job.state, job.done, sandbox.spent) == ("running", 4, 3)
    after_the_lease(set_clock)
    assert resume_jobs() == 1
    worker = processes.start("jobs", tmp_path / "second.log")
    try:
        wait_until(lambda: Job.objects.get().state == "succeeded", worker)
    finally:
        processes.kill(worker)
    job.refresh_from_db()
    assert set(job.items.values_list("state", flat=True)) == {"enriched"}
    assert outcome(job)["api_calls"] == 4
    assert balance(sandbox) == (4, 4)
    assert Call.objects.filter(outcome="unknown").count() == 1


def test_slow_jobs_on_all_job_workers_do_not_delay_the_queue(
    consumer: Consumer, sandbox: Sandbox, settings, tmp_path: Path
) -> None:
    settings.ISBNDB_BATCH_SIZE = 2
    meet, served = sandbox.faults.meet, threading.Event()

    def met(path: str) -> Any:
        if sandbox.spent <= 2:
            served.wait(PATIENCE)
        return meet(path)

    sandbox.faults.meet = met
    for isbns in (KNOWN[:2], KNOWN[2:4]):
        create_job(consumer=consumer, kind=Job.Kind.BATCH_DIRECT, wanted={"isbns": isbns})
    jobs = processes.start("jobs", tmp_path / "jobs.log")
    others = processes.start("worker", tmp_path / "worker.log")
    try:
        wait_until(lambda: sandbox.spent == 2, jobs)
        queue.enqueue(KNOWN[4:5], priority=QueuedIsbn.Priority.HIGH, consumer="reader")
        Asker.objects.update(due_at=NOON)
        signature("harvest.tasks.run_cron", ["queue-flush"]).apply_async()
        wait_until(lambda: not QueuedIsbn.objects.exists(), others)
        assert set(Job.objects.values_list("state", "done")) == {("running", 0)}
        served.set()
        wait_until(lambda: Job.objects.filter(state="succeeded").count() == 2, jobs)
    finally:
        served.set()
        processes.kill(jobs)
        processes.kill(others)


def test_without_the_broker_a_job_is_accepted_and_sent_when_the_broker_is_back(
    consumer: Consumer, sandbox: Sandbox, set_clock: SetClock
) -> None:
    create = (
        "import django; django.setup()\n"
        "from enrichment.jobs.lifecycle import create_job\n"
        "from quota.models import Consumer\n"
        "create_job(consumer=Consumer.objects.get(), kind='batch-direct', wanted={'isbns': ['9780441013593']})\n"
    )
    subprocess.run(
        [sys.executable, "-c", create],
        env=processes.environment() | {"REDIS_URL": "redis://127.0.0.1:1/0"},
        timeout=PATIENCE,
        check=True,
    )
    assert Job.objects.get().state == "queued"
    assert resume_jobs() == 1
    assert resume_jobs() == 0, "the message was sent, and waits"
