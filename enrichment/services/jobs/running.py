"""Working on a job: claim it, do a step, write down what came of it, until it ends, has to wait or loses the claim."""

import time
import uuid
from datetime import datetime, timedelta
from random import uniform
from typing import TypeGuard

import structlog
from django.db import OperationalError
from django.db.models.expressions import Combinable

from enrichment.exceptions import IsbndbError, IsbndbRefused, IsbndbUnavailable
from enrichment.models import Job
from enrichment.services import EnrichmentStopped
from enrichment.services.jobs.claims import QUEUE_PATIENCE, ClaimLost, claim, put_back, renew
from enrichment.services.jobs.ending import end
from enrichment.services.jobs.kinds import work_of
from enrichment.services.stopping import stop_reason
from quota.database import QuotaNow
from quota.exceptions import ConsumerInactive, ConsumerUnknown, QuotaError, QuotaRefused, ReservationClosed
from quota.selectors import MIDNIGHT_GUARD, forecast

log = structlog.get_logger(__name__)

TURN = timedelta(minutes=1)
"""After this the job is queued anew, behind those that wait for a worker."""

MOST_ATTEMPTS = 3
"""Claims for one step: that many fail, or die, and the job has failed."""

PAUSE = timedelta(seconds=30)
"""Before the second attempt; four times that before the third."""

LONGEST_PAUSE = timedelta(minutes=15)

SPREAD = 30.0
"""Seconds over which those that waited for the same midnight are spread."""

_NOT_FOR_WAITING = (IsbndbRefused, ConsumerInactive, ConsumerUnknown)


def run_job(job_id: uuid.UUID) -> None:
    """Works on a job that is queued; when it is not, somebody else has it, or it has ended: then nothing happens.

    Each step asks for one call, on a reservation of its own, whose `source` is the job's. What is wrong with the quota
    or ISBNdb lets the job wait or fail. Anything else is raised; the job is then resumed when its lease has run out,
    MOST_ATTEMPTS times in all.
    """
    job = claim(job_id)
    if job is None:
        return
    with structlog.contextvars.bound_contextvars(job=str(job_id)):
        try:
            _work_on(job)
        except ClaimLost:
            log.warning("job.claim_lost")
        except EnrichmentStopped as stopped:
            _stop(job, stopped.__cause__ if isinstance(stopped.__cause__, Exception) else stopped)
        except (QuotaError, IsbndbError, OperationalError) as error:
            _stop(job, error)


def _work_on(job: Job) -> None:
    if job.attempts > MOST_ATTEMPTS:
        end(job, state=Job.State.FAILED, reason="crashed", error="Every worker that took this step has died.")
        return
    turn_ends = time.monotonic() + TURN.total_seconds()
    while renew(job):
        if not work_of(job).step(job):
            end(job, state=Job.State.SUCCEEDED)
            return
        if time.monotonic() > turn_ends:
            put_back(job, state=Job.State.QUEUED, resume_at=QuotaNow() + QUEUE_PATIENCE, attempts=0)
            return
    end(job, state=Job.State.CANCELLED, reason="cancelled", error="Cancelled.")


def _stop(job: Job, error: Exception) -> None:
    try:
        resume_at = _resume_at(job, error)
        if resume_at is None:
            end(job, state=Job.State.FAILED, reason=stop_reason(error), error=_words(error))
            return
        put_back(
            job,
            state=Job.State.WAITING,
            resume_at=resume_at,
            attempts=0 if _is_exhausted(error) else job.attempts,
            stopped_reason=stop_reason(error),
            error=_words(error),
        )
        log.info("job.waits", reason=stop_reason(error))
    except ClaimLost:
        log.warning("job.claim_lost")


def _words(error: Exception) -> str:
    """What consumers may read: PostgreSQL's own words name its host."""
    return "The database is out of reach." if isinstance(error, OperationalError) else str(error)


def _is_exhausted(error: Exception) -> TypeGuard[QuotaRefused]:
    return isinstance(error, QuotaRefused) and error.limit != "midnight"


def _resume_at(job: Job, error: Exception) -> datetime | Combinable | None:
    """When the job is to go on after the error, by the quota's clock; None when it has failed."""
    if _is_exhausted(error):
        never = forecast(1, consumer=job.consumer.slug).finish_at is None
        if error.retry_at is None or never or job.on_exhausted == Job.OnExhausted.FAIL:
            return None
        return error.retry_at + MIDNIGHT_GUARD + timedelta(seconds=uniform(0, SPREAD))  # noqa: S311
    if isinstance(error, _NOT_FOR_WAITING) or job.attempts >= MOST_ATTEMPTS:
        return None
    pause: timedelta = PAUSE * 4 ** (job.attempts - 1)
    if isinstance(error, IsbndbUnavailable) and error.retry_after is not None:
        pause = max(pause, timedelta(seconds=min(error.retry_after, LONGEST_PAUSE.total_seconds())))
    if isinstance(error, QuotaRefused | ReservationClosed):  # midnight: the new day's quota is seconds away
        pause = 2 * MIDNIGHT_GUARD
    later: Combinable = QuotaNow() + pause
    return later
