"""A command that works on a job of authors in its own process: claims, dead processes, stops, limits and waits."""

import subprocess
import sys
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from alexandria.common.heartbeats import LEASE
from alexandria.development.sandbox import catalogue
from alexandria.development.sandbox.server import Sandbox
from enrichment.exceptions import AnotherRunner
from enrichment.jobs import attended, ending
from enrichment.jobs.attended import AttendedRun, Ended, claim_for_command
from enrichment.jobs.lifecycle import create_job, pause_job, resume_job, resume_jobs
from enrichment.jobs.workers import run_job
from enrichment.models import Job, JobAuthor
from quota.models import Consumer
from tests.enrichment.jobs.test_jobs import during_request
from tests.fixtures import NOON, SetClock, balance

NAMES = ["Ada Brandvold", catalogue.MORE_THAN_1000, "Aldous Huxley"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("consumer", "sandbox", "plenty_left", "one_at_a_time")]


class Lines:
    """A listener that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def author(self, author: JobAuthor, detail: str) -> None:
        self.said.append(f"{author.name}: {author.state}{detail and ', '}{detail}")

    def page(self) -> None:
        pass

    def waiting(self, reason: str, message: str, until: datetime | None) -> None:
        self.said.append(f"waiting: {reason}")

    def trying_again(self, message: str, seconds: float) -> None:
        self.said.append(f"again: {message}")


@pytest.fixture
def job() -> Job:
    consumer = Consumer.objects.get(slug="reader")
    return create_job(consumer=consumer, kind=Job.Kind.AUTHORS, wanted={"authors": NAMES}, attended=True)


def run(job: Job, **options: Any) -> tuple[Ended, list[str]]:
    lines = Lines()
    ended = AttendedRun(claim_for_command(job.pk), listener=lines, **options).run()
    return ended, lines.said


def test_a_command_works_on_a_job_that_no_worker_gets(job: Job, sandbox: Sandbox) -> None:
    assert (job.state, resume_jobs()) == ("paused", 0)
    run_job()
    assert sandbox.requests == []
    ended, said = run(job)
    assert (ended, said) == (Ended(), [f"{name}: done" for name in NAMES])
    job.refresh_from_db()
    assert (job.state, job.done, job.attended) == ("succeeded", 3, True)
    assert claim_for_command(job.pk).ended_at is not None, "nothing is left to do"
    assert balance(sandbox) == (4, 4)


def test_after_limit_authors_the_job_is_paused_and_goes_on_with_the_next(job: Job, sandbox: Sandbox) -> None:
    assert run(job, limit=2)[0].reason == ""
    assert Job.objects.get().state == "paused"
    assert run(job) == (Ended(), ["Aldous Huxley: done"])
    assert balance(sandbox) == (4, 4)


def test_a_process_that_was_killed_is_replaced_at_once_and_one_that_lives_is_not(
    job: Job, sandbox: Sandbox, set_clock: SetClock
) -> None:
    claim_for_command(job.pk)
    with pytest.raises(AnotherRunner, match="Its lease ends at"):
        claim_for_command(job.pk)
    assert resume_jobs() == 0
    assert Job.objects.get().state == "running"
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    Job.objects.update(pid=dead.pid)
    assert resume_jobs() == 0
    assert (Job.objects.get().state, Job.objects.get().stopped_reason) == ("paused", "process_ended")
    claim_for_command(job.pk)
    Job.objects.update(host="elsewhere")
    with pytest.raises(AnotherRunner):
        claim_for_command(job.pk)
    set_clock(NOON + 2 * LEASE)
    assert claim_for_command(job.pk).pid


def test_a_command_that_was_suspended_for_longer_than_its_lease_keeps_its_job(job: Job, set_clock: SetClock) -> None:
    claim_for_command(job.pk)
    set_clock(NOON + 2 * LEASE)
    assert resume_jobs() == 0
    assert (Job.objects.get().state, Job.objects.get().attended) == ("running", True)


def test_a_signal_lets_what_is_under_way_come_in(job: Job, sandbox: Sandbox) -> None:
    lines = Lines()
    command = AttendedRun(claim_for_command(job.pk), listener=lines)
    during_request(sandbox, 2, command.stop)
    assert command.run().reason == "interrupted"
    assert (Job.objects.get().state, JobAuthor.objects.get(position=2).pages) == ("paused", 1)
    assert run(job) == (Ended(), [f"{name}: done" for name in NAMES[1:]])
    assert balance(sandbox) == (4, 4)


def test_a_pause_in_the_admin_ends_the_command_and_a_worker_can_go_on(job: Job, sandbox: Sandbox) -> None:
    during_request(sandbox, 1, lambda: pause_job(job.pk))
    assert run(job)[0].reason == "paused"
    resume_job(job.pk)
    run_job()
    assert (Job.objects.get().state, Job.objects.get().attended) == ("succeeded", False)


def test_when_a_pause_is_taken_back_in_time_the_command_goes_on(job: Job, sandbox: Sandbox, monkeypatch) -> None:
    stop = ending.stop_as_requested

    def too_late(stopped: Job) -> bool:
        resume_job(job.pk)
        return stop(stopped)

    monkeypatch.setattr(attended, "stop_as_requested", too_late)
    during_request(sandbox, 1, lambda: pause_job(job.pk))
    assert run(job) == (Ended(), [f"{name}: done" for name in NAMES])
    assert balance(sandbox) == (4, 4)


def test_without_quota_the_command_ends_or_waits_for_it(job: Job, sandbox: Sandbox, monkeypatch) -> None:
    Consumer.objects.update(daily_budget=1)
    ended, said = run(job)
    assert (ended.reason, said) == ("daily_budget", ["Ada Brandvold: done"])
    assert Job.objects.get().state == "paused"

    def more(self: AttendedRun, seconds: float) -> None:
        assert seconds > timedelta(minutes=5).total_seconds()
        Consumer.objects.update(daily_budget=None)
        connection.close()

    monkeypatch.setattr(AttendedRun, "_sleep", more)
    assert run(job, wait=True) == (Ended(), ["waiting: daily_budget", *(f"{name}: done" for name in NAMES[1:])])
    assert balance(sandbox) == (4, 4)


def test_failures_in_a_row_end_the_command(job: Job, sandbox: Sandbox, monkeypatch) -> None:
    monkeypatch.setattr("enrichment.jobs.kinds.authors.MAX_FAILURES_IN_A_ROW", 2)
    sandbox.add_fault("garbage", path="/author", times=2)
    ended, said = run(job)
    assert (ended.reason, len(said)) == ("too_many_failures", 2)
    assert "ISBNdb's answer could not be read." in ended.message
    assert run(job)[0] == Ended()
    assert JobAuthor.objects.filter(state="done").count() == 3


def test_when_the_quota_is_out_of_reach_the_command_tries_again_and_then_gives_up(
    job: Job, sandbox: Sandbox, monkeypatch
) -> None:
    monkeypatch.setattr(attended, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr("enrichment.gateway.asking.MAX_PACE_WAIT", timedelta())
    from quota.database import ask

    ask("SELECT quota_slow_down(900)")
    ended, said = run(job)
    assert (ended.reason, len(said)) == ("fleet_busy", 2)
    assert Job.objects.get().state == "paused"
