"""Who may write to a job: whoever holds its claim, and, while nobody does, whoever has its row locked."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import structlog
from celery import signature
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from kombu.exceptions import OperationalError as BrokerUnavailable

from enrichment.gateway.client import LONGEST_ASK
from enrichment.models import Job
from quota.database import QuotaNow

log = structlog.get_logger(__name__)

LEASE = LONGEST_ASK + timedelta(minutes=2)
"""Renewed before each step, and longer than a step: its call with all retries and pauses, and storing what came."""

QUEUE_PATIENCE = timedelta(hours=1)
"""A job that nobody took by then is queued once more: the broker may have lost its message, or the line is long."""


_CAME_OFF = {"attempts": 1, "failures": 0}
"""What is true after a step that came off."""


class ClaimLost(Exception):
    """The lease ran out and somebody else has the job: nothing more may be written to it."""


def queue(job_id: uuid.UUID) -> None:
    """Sends the task once the transaction is committed; when the broker is away, the next `resume_jobs` sends it."""

    def send() -> None:
        try:
            signature("enrichment.tasks.run_job", [str(job_id)]).apply_async(retry=False)
        except BrokerUnavailable as error:
            Job.objects.filter(pk=job_id, state=Job.State.QUEUED).update(resume_at=QuotaNow())
            log.warning("job.not_sent", job=str(job_id), error=str(error))

    transaction.on_commit(send, robust=True)


def claim(job_id: uuid.UUID) -> Job | None:
    """The queued job, running and ours from now on; None when it was not to be had."""
    runner = uuid.uuid4()
    claimed = Job.objects.filter(pk=job_id, state=Job.State.QUEUED).update(
        state=Job.State.RUNNING,
        runner=runner,
        lease_until=QuotaNow() + LEASE,
        resume_at=None,
        started_at=Coalesce("started_at", QuotaNow()),
        attempts=F("attempts") + 1,
        stopped_reason="",
        error="",
    )
    return Job.objects.select_related("consumer").get(pk=job_id, runner=runner) if claimed == 1 else None


def renew(job: Job) -> bool:
    """Renews the lease; False when the job is to be cancelled. Raises ClaimLost."""
    if Job.objects.filter(pk=job.pk, runner=job.runner).update(lease_until=QuotaNow() + LEASE) != 1:
        raise ClaimLost
    return not Job.objects.values_list("cancel_requested", flat=True).get(pk=job.pk)


@contextmanager
def held(job: Job) -> Iterator[None]:
    """A transaction in which the row is locked and ours; `cancel_requested` is then as it stays. Raises ClaimLost."""
    with transaction.atomic(durable=True):
        ours = Job.objects.select_for_update(no_key=True).filter(pk=job.pk, runner=job.runner)
        cancel_requested = ours.values_list("cancel_requested", flat=True).first()
        if cancel_requested is None:
            raise ClaimLost
        job.cancel_requested = cancel_requested
        yield


def save_step(job: Job, **fields: Any) -> None:
    """Writes how far the job is after a step that came off; inside `held`."""
    for name, value in (fields | _CAME_OFF).items():
        setattr(job, name, value)
    job.save(update_fields=[*fields, *_CAME_OFF])


def put_back(job: Job, *, state: Job.State, resume_at: Any, **fields: Any) -> bool:
    """Lets the claim go: the job is queued, or waits, until `resume_at`. Raises ClaimLost.

    False, and the claim stays, when the job is to be cancelled.
    """
    with held(job):
        if job.cancel_requested:
            return False
        what = fields | {"state": state, "runner": None, "lease_until": None, "resume_at": resume_at, "attempts": 0}
        Job.objects.filter(pk=job.pk).update(**what)
        if state == Job.State.QUEUED:
            queue(job.pk)
    return True


def due() -> Q:
    """Jobs on which somebody should be working and nobody is: those of the dead, and those that waited enough."""
    lost = Q(state=Job.State.RUNNING, lease_until__lte=QuotaNow())
    return lost | Q(state__in=[Job.State.QUEUED, Job.State.WAITING], resume_at__lte=QuotaNow())
