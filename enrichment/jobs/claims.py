"""Who may write to a job: the runner that holds its claim. Without a runner: the transaction that locks its row."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction
from django.db.models import DateField, Exists, F, Func, Q
from django.db.models.functions import Coalesce

from alexandria.common.heartbeats import LEASE, heartbeats
from alexandria.common.publishing import publish
from enrichment.exceptions import AlreadyBegun
from enrichment.jobs.events import job_changed
from enrichment.jobs.processes import has_ended, is_alive, this_process
from enrichment.models import Job
from quota.database import QuotaNow
from quota.models import DailyLedger

QUEUE = "jobs"
"""The queue of the messages which say that there is a job."""

_REOPENED_TODAY = DailyLedger.objects.filter(
    day=Func(QuotaNow(), function="quota_day", output_field=DateField()), closed_at=None, reopenings__isnull=False
)

_AFTER_SUCCESS = {"attempts": 1, "failures": 0}
"""The counters after an answer."""


class ClaimLost(Exception):
    """The lease has expired and another runner has the job. This one must not write to it any more."""


def send_to_worker(job: Job) -> None:
    """Tells a worker after the commit that there is this job. If the broker does not take it, `resume_jobs` does it.

    The worker takes the job whose turn it is, which can be another one.
    """

    def send() -> None:
        job.is_announced = send_message()

    transaction.on_commit(send, robust=True)


def send_message() -> bool:
    """Tells a worker that there is a job; returns whether the broker has taken the message."""
    return publish("enrichment.tasks.run_job")


_QUEUED = "FROM enrichment_job AS job WHERE job.state = 'queued' AND NOT job.attended"
_NEXT_IN_TURN = f"""
    SELECT job.id {_QUEUED} {{condition}}
    ORDER BY (
        SELECT claimed_at FROM enrichment_job AS other
        WHERE other.consumer_id = job.consumer_id AND claimed_at IS NOT NULL ORDER BY claimed_at DESC LIMIT 1
    ) NULLS FIRST, job.claimed_at NULLS FIRST, job.created_at
    LIMIT 1 FOR NO KEY UPDATE OF job SKIP LOCKED"""  # noqa: S608 (only texts from here)
"""The queued job of the consumer whose last turn is the longest ago. Of its jobs: the same."""

_OF_A_NEWCOMER = """AND job.claimed_at IS NULL AND NOT EXISTS (
    SELECT FROM enrichment_job AS running
    WHERE running.consumer_id = job.consumer_id AND running.state = 'running' AND NOT running.attended)"""
_NEWCOMER_WAITS = f"SELECT EXISTS (SELECT {_QUEUED} {_OF_A_NEWCOMER})"


def claim_next() -> Job | None:
    """Claims the queued job whose turn it is; None when no job is queued."""
    return _claim_in_turn("")


def claim_newcomer() -> Job | None:
    """Claims a job that no worker has taken yet, of a consumer none of whose jobs runs; None without one."""
    return _claim_in_turn(_OF_A_NEWCOMER)


def newcomer_waits() -> bool:
    """Whether there is a job for `claim_newcomer`."""
    with connection.cursor() as cursor:
        cursor.execute(_NEWCOMER_WAITS)
        return bool(cursor.fetchone()[0])


def _claim_in_turn(condition: str) -> Job | None:
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(_NEXT_IN_TURN.format(condition=condition))
        found: tuple[uuid.UUID] | None = cursor.fetchone()
        return claim_if(Q(pk=found[0])) if found else None


def claim_if(condition: Q, **fields: Any) -> Job | None:
    """Claims the one job that meets the condition, for a new runner; None when none does. `fields`: more columns."""
    runner = uuid.uuid4()
    claimed = Job.objects.filter(condition).update(
        state=Job.State.RUNNING,
        runner=runner,
        lease_until=QuotaNow() + LEASE,
        claimed_at=QuotaNow(),
        resume_at=None,
        started_at=Coalesce("started_at", QuotaNow()),
        attempts=F("attempts") + 1,
        stopped_reason="",
        error="",
        **this_process(),
        **fields,
    )
    return Job.objects.select_related("consumer").get(runner=runner) if claimed == 1 else None


def refuse_second(job: Job) -> None:
    """Raises AlreadyBegun when another job of the consumer for the same list has not ended."""
    same = Job.objects.filter(consumer=job.consumer_id, list_key=job.list_key, ended_at=None).exclude(pk=job.pk)
    if job.list_key and (other := same.first()) is not None:
        raise AlreadyBegun(other)


def renew(job: Job) -> str:
    """Renews the lease; returns what somebody has requested, as `Job.stop_requested`. Raises ClaimLost."""
    if Job.objects.filter(pk=job.pk, runner=job.runner).update(lease_until=QuotaNow() + LEASE) != 1:
        raise ClaimLost
    return Job.objects.values_list("stop_requested", flat=True).get(pk=job.pk)


@contextmanager
def kept(job: Job) -> Iterator[None]:
    """Keeps the claim of this runner during the block: the lease is renewed in a thread of its own.

    Without it, a job whose runner has died would stand for as long as the longest request takes.
    """
    ours = Job.objects.filter(pk=job.pk, runner=job.runner)
    with heartbeats(lambda: ours.update(lease_until=QuotaNow() + LEASE) == 1):
        yield


@contextmanager
def held(job: Job) -> Iterator[None]:
    """A transaction that locks the row of a job this runner holds. `stop_requested` cannot change in it.

    Raises ClaimLost.
    """
    with transaction.atomic(durable=True):
        ours = Job.objects.select_for_update(no_key=True).filter(pk=job.pk, runner=job.runner)
        stop_requested = ours.values_list("stop_requested", flat=True).first()
        if stop_requested is None:
            raise ClaimLost
        job.stop_requested = stop_requested
        yield


def save_step(job: Job, *, failed: bool = False, **fields: Any) -> None:
    """Records the progress after an answer. Call it inside `held`. `failed`: the job's failures still count."""
    if not failed:
        fields |= _AFTER_SUCCESS
    for name, value in fields.items():
        setattr(job, name, value)
    if fields:
        job.save(update_fields=[*fields])


def put_back(job: Job, *, state: Job.State, resume_at: Any, **fields: Any) -> bool:
    """Releases the claim: the job is queued, or waits until `resume_at`. Raises ClaimLost.

    Returns False and keeps the claim when somebody has requested a pause or a cancel.
    """
    with held(job):
        if job.stop_requested:
            return False
        columns = fields | {"state": state, "runner": None, "lease_until": None, "resume_at": resume_at, "attempts": 0}
        Job.objects.filter(pk=job.pk).update(**columns)
        if state == Job.State.QUEUED:
            send_to_worker(job)
        else:
            job_changed.send(sender=Job, job_id=job.pk)
    return True


def pause(job: Job, *, reason: str, error: str) -> None:
    """Pauses a job whose row is locked: nobody runs it until somebody resumes it. `reason`, `error`: why."""
    job.state, job.stop_requested = Job.State.PAUSED, ""
    job.stopped_reason, job.error = reason, error
    job.runner = job.lease_until = job.resume_at = None
    columns = ("state", "stop_requested", "stopped_reason", "error", "runner", "lease_until", "resume_at")
    job.save(update_fields=columns)


def pause_abandoned() -> None:
    """Pauses the jobs of commands that have died: their lease is over, or their process on this machine has ended.

    A process that lives on this machine keeps its job: it may only be slow, or the database's clock has jumped.
    """
    for job in Job.objects.filter(state=Job.State.RUNNING, attended=True):
        if is_alive(job):
            continue
        over = Q(lease_until__lte=QuotaNow()) | (Q(runner=job.runner) if has_ended(job) else Q(pk=None))
        with transaction.atomic(durable=True):
            if Job.objects.select_for_update(no_key=True).filter(over, pk=job.pk, state=Job.State.RUNNING).exists():
                pause(job, reason="process_ended", error="The process of the command has ended.")


def due() -> Q:
    """Jobs that need a worker and have none: their runner died, or their wait is over.

    A wait for the next day is over too when the closed day is open again.
    """
    lost = Q(state=Job.State.RUNNING, attended=False, lease_until__lte=QuotaNow())
    over = Q(state=Job.State.WAITING, resume_at__lte=QuotaNow())
    return lost | over | Q(Exists(_REOPENED_TODAY), state=Job.State.WAITING, stopped_reason="day_closed")
