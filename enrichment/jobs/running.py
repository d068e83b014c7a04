"""Working on a job: claim it, do a step, write down what came of it, until it ends, has to wait or loses the claim."""

import time
import uuid
from datetime import datetime, timedelta
from random import uniform

import structlog
from django.db import DatabaseError, connection
from django.db.models.expressions import Combinable

from alexandria.common.database import OUT_OF_REACH, READ_ONLY, sqlstate
from enrichment.exceptions import ENDINGS, EnrichmentStopped, IsbndbRefused, IsbndbUnavailable
from enrichment.jobs.claims import QUEUE_PATIENCE, ClaimLost, claim, put_back, renew
from enrichment.jobs.ending import end
from enrichment.jobs.kinds import work_of
from enrichment.models import Job
from enrichment.models.queue import MAX_ATTEMPTS
from enrichment.services.stop_reasons import MAX_PAUSE, in_our_words, pause_after, stop_reason
from quota.database import QuotaNow
from quota.exceptions import ConsumerInactive, ConsumerUnknown, QuotaError, QuotaRefused, ReservationClosed
from quota.selectors.status import MIDNIGHT_GUARD
from quota.selectors.usage import forecast, may_come_free

log = structlog.get_logger(__name__)

TURN = timedelta(minutes=1)
"""After this the job is queued anew, behind those that wait for a worker."""

MOST_DEATHS = 3
"""Runners that died of one step: then the job has failed."""

MOMENT = timedelta(seconds=60)
"""How long a job waits for what is amiss for a moment only, and for nobody's fault."""

SPREAD = 30.0
"""Seconds over which those that waited for the same midnight are spread."""

_NOT_FOR_WAITING = (IsbndbRefused, ConsumerInactive, ConsumerUnknown)
_DATABASE = (DatabaseError, *OUT_OF_REACH)


def run_job(job_id: uuid.UUID) -> None:
    """Works on a job that is queued; when it is not, somebody else has it, or it has ended: then nothing happens.

    Each step asks for one call, on a reservation of its own, whose `source` is the job's. What is wrong with the quota,
    ISBNdb or the database lets the job wait or fail. Anything else is raised; the job is then resumed when its lease
    has run out, MOST_DEATHS times in all.
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
            _stop(job, stopped.reason)
        except ENDINGS as error:
            _stop(job, error)
        except DatabaseError as error:
            if sqlstate(error) != READ_ONLY:
                raise
            _stop(job, error)


def _work_on(job: Job) -> None:
    if job.attempts > MOST_DEATHS:
        end(job, state=Job.State.FAILED, reason="crashed", error="Every worker that took this step has died.")
        return
    turn_ends = time.monotonic() + TURN.total_seconds()
    while renew(job):
        if not work_of(job).step(job):
            end(job, state=Job.State.SUCCEEDED)
            return
        if time.monotonic() > turn_ends:
            if not put_back(job, state=Job.State.QUEUED, resume_at=QuotaNow() + QUEUE_PATIENCE):
                break
            return
    end(job, state=Job.State.CANCELLED)


def _stop(job: Job, error: Exception) -> None:
    """Lets the job wait, or fail, after what ended a step; or ends it as cancelled, when somebody wants that."""
    if isinstance(error, _DATABASE):
        connection.close()  # the next one may find a database that works
    failures = job.failures + (not isinstance(error, QuotaError))
    try:
        resume_at = _resume_at(job, error, failures)
        if resume_at is not None and put_back(
            job,
            state=Job.State.WAITING,
            resume_at=resume_at,
            failures=failures,
            stopped_reason=stop_reason(error),
            error=in_our_words(error),
        ):
            log.info("job.waits", reason=stop_reason(error))
            return
        end(job, state=Job.State.FAILED, reason=stop_reason(error), error=in_our_words(error))
    except ClaimLost:
        log.warning("job.claim_lost")


def _resume_at(job: Job, error: Exception, failures: int) -> datetime | Combinable | None:
    """When the job is to go on after the error, by the quota's clock; None when it has failed.

    `failures`: how often ISBNdb or the database failed at this step.
    """
    if isinstance(error, QuotaRefused) and error.limit != "midnight":
        return _after_refusal(job, error)
    if isinstance(error, QuotaRefused | ReservationClosed):  # midnight: the new day's quota is seconds away
        return _later(2 * MIDNIGHT_GUARD)
    if isinstance(error, _NOT_FOR_WAITING) or failures >= MAX_ATTEMPTS:
        return None
    if isinstance(error, QuotaError):
        return _later(MOMENT * uniform(1, 1.5))  # noqa: S311
    pause = pause_after(failures)
    if isinstance(error, IsbndbUnavailable) and error.retry_after is not None:
        pause = max(pause, min(timedelta(seconds=error.retry_after), MAX_PAUSE))
    return _later(pause)


def _after_refusal(job: Job, refusal: QuotaRefused) -> datetime | Combinable | None:
    consumer = job.consumer.slug
    if may_come_free(refusal, consumer=consumer):
        return _later(MOMENT * uniform(1, 1.5))  # noqa: S311
    never = forecast(1, consumer=consumer).finish_at is None
    if refusal.retry_at is None or never or job.on_exhausted == Job.OnExhausted.FAIL:
        return None
    return refusal.retry_at + MIDNIGHT_GUARD + timedelta(seconds=uniform(0, SPREAD))  # noqa: S311


def _later(pause: timedelta) -> Combinable:
    moment: Combinable = QuotaNow() + pause
    return moment
