"""Who may write to a job: the runner that holds its claim. Without a runner: the transaction that locks its row."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import structlog
from celery import signature
from django.db import transaction
from django.db.models import DateField, Exists, F, Func, Q
from django.db.models.functions import Coalesce
from kombu.exceptions import OperationalError as BrokerUnavailable

from enrichment.gateway.asking import MAX_ASK_TIME
from enrichment.jobs.processes import has_ended, this_process
from enrichment.models import Job
from quota.database import QuotaNow
from quota.models import DailyLedger

log = structlog.get_logger(__name__)

LEASE = MAX_ASK_TIME + timedelta(minutes=2)
"""A runner renews it before each step. It is longer than a step: a request with all retries and pauses, and storing."""

_REOPENED_TODAY = DailyLedger.objects.filter(
    day=Func(QuotaNow(), function="quota_day", output_field=DateField()), closed_at=None, reopenings__isnull=False
)

QUEUE_PATIENCE = timedelta(hours=1)
"""A job that no worker has taken by then is sent again: the broker may have lost the message, or workers are busy."""

_AFTER_SUCCESS = {"attempts": 1, "failures": 0}
"""The counters after a successful step."""


class ClaimLost(Exception):
    """The lease has expired and another runner has the job. This one must not write to it any more."""


def send_to_worker(job_id: uuid.UUID) -> None:
    """Sends the task after the transaction commits. If the broker is unreachable, the next `resume_jobs` sends it."""

    def send() -> None:
        try:
            signature("enrichment.tasks.run_job", [str(job_id)]).apply_async(retry=False)
        except BrokerUnavailable as error:
            Job.objects.filter(pk=job_id, state=Job.State.QUEUED).update(resume_at=QuotaNow())
            log.warning("job.not_sent", job=str(job_id), error=str(error))

    transaction.on_commit(send, robust=True)


def claim(job_id: uuid.UUID) -> Job | None:
    """Claims a queued job for a new runner; None when the job is not queued."""
    return claim_if(Q(pk=job_id, state=Job.State.QUEUED, attended=False))


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


def renew(job: Job) -> str:
    """Renews the lease; returns what somebody has requested, as `Job.stop_requested`. Raises ClaimLost."""
    if Job.objects.filter(pk=job.pk, runner=job.runner).update(lease_until=QuotaNow() + LEASE) != 1:
        raise ClaimLost
    return Job.objects.values_list("stop_requested", flat=True).get(pk=job.pk)


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


def save_step(job: Job, **fields: Any) -> None:
    """Records the progress after a successful step. Call it inside `held`."""
    for name, value in (fields | _AFTER_SUCCESS).items():
        setattr(job, name, value)
    job.save(update_fields=[*fields, *_AFTER_SUCCESS])


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
            send_to_worker(job.pk)
    return True


def pause(job: Job, *, reason: str, error: str) -> None:
    """Pauses a job whose row is locked: nobody runs it until somebody resumes it. `reason`, `error`: why."""
    job.state, job.stop_requested = Job.State.PAUSED, ""
    job.stopped_reason, job.error = reason, error
    job.runner = job.lease_until = job.resume_at = None
    columns = ("state", "stop_requested", "stopped_reason", "error", "runner", "lease_until", "resume_at")
    job.save(update_fields=columns)


def pause_abandoned() -> None:
    """Pauses the jobs of commands that have died: their lease is over, or their process on this machine has ended."""
    for job in Job.objects.filter(state=Job.State.RUNNING, attended=True):
        over = Q(lease_until__lte=QuotaNow()) | (Q(runner=job.runner) if has_ended(job) else Q(pk=None))
        with transaction.atomic(durable=True):
            if Job.objects.select_for_update(no_key=True).filter(over, pk=job.pk, state=Job.State.RUNNING).exists():
                pause(job, reason="process_ended", error="The process of the command has ended.")


def due() -> Q:
    """Jobs that need a worker and have none: their runner died, or their wait is over.

    A wait for the next day is over too when the closed day is open again.
    """
    lost = Q(state=Job.State.RUNNING, attended=False, lease_until__lte=QuotaNow())
    over = Q(state__in=[Job.State.QUEUED, Job.State.WAITING], resume_at__lte=QuotaNow())
    return lost | over | Q(Exists(_REOPENED_TODAY), state=Job.State.WAITING, stopped_reason="day_closed")
