"""Running a job: claim it and do step after step until it ends, has to wait, or loses the claim."""

import time
import uuid
from datetime import datetime, timedelta
from random import uniform

import structlog
from django.db import DatabaseError, connection
from django.db.models import Value
from django.db.models.expressions import Combinable

from alexandria.common.database import OUT_OF_REACH, READ_ONLY, sqlstate
from enrichment.exceptions import ENDINGS, EnrichmentStopped, IsbndbRefused, IsbndbUnavailable
from enrichment.jobs.claims import QUEUE_PATIENCE, ClaimLost, claim, put_back, renew
from enrichment.jobs.ending import end, stop_as_requested
from enrichment.jobs.handlers import handler_of
from enrichment.models import Job
from enrichment.models.queue import MAX_ATTEMPTS
from enrichment.services.stop_reasons import MAX_PAUSE, pause_after, public_message, stop_reason
from quota.database import MidnightGuard, QuotaNow
from quota.exceptions import ConsumerInactive, ConsumerUnknown, QuotaError, QuotaRefused, ReservationClosed
from quota.selectors.allowances import may_come_free
from quota.selectors.forecast import forecast

log = structlog.get_logger(__name__)

TURN = timedelta(minutes=1)
"""After this time the job goes to the end of the line, so that other jobs get a worker."""

MAX_DEATHS = 3
"""After so many runners have died in the same step, the job fails."""

SHORT_WAIT = timedelta(seconds=60)
"""How long a job waits for something that passes by itself, such as calls that others have reserved."""

MIDNIGHT_SPREAD = timedelta(seconds=30)
"""Jobs that wait for midnight start at random times within this span, not all at once."""

_PERMANENT = (IsbndbRefused, ConsumerInactive, ConsumerUnknown)
_DATABASE = (DatabaseError, *OUT_OF_REACH)


def run_job(job_id: uuid.UUID) -> None:
    """Runs a queued job. Does nothing when the job is not queued: another runner has it, or it has ended.

    Each step reserves its own calls, with the job's `source`. A failure of the quota, ISBNdb or the database makes the
    job wait or fail. Any other exception is raised; the job is then resumed after its lease expires, until MAX_DEATHS
    runners have died.
    """
    job = claim(job_id)
    if job is None:
        return
    with structlog.contextvars.bound_contextvars(job=str(job_id)):
        try:
            _run(job)
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


def _run(job: Job) -> None:
    if job.attempts > MAX_DEATHS:
        end(job, state=Job.State.FAILED, reason="crashed", error="Every worker that tried this step died.")
        return
    turn_ends = time.monotonic() + TURN.total_seconds()
    while not renew(job):
        if not handler_of(job).step(job):
            end(job, state=Job.State.SUCCEEDED)
            return
        if time.monotonic() > turn_ends:
            if not put_back(job, state=Job.State.QUEUED, resume_at=QuotaNow() + QUEUE_PATIENCE):
                break
            return
    stop_as_requested(job)


def _stop(job: Job, error: Exception) -> None:
    """Decides after a failed step: the job waits, fails, or ends as cancelled when somebody has requested that."""
    if isinstance(error, _DATABASE):
        connection.close()  # a new connection can reach a database that works
    failures = job.failures + (not isinstance(error, QuotaError))
    try:
        resume_at = _resume_at(job, error, failures)
        if resume_at is not None and put_back(
            job,
            state=Job.State.WAITING,
            resume_at=resume_at,
            failures=failures,
            stopped_reason=stop_reason(error),
            error=public_message(error),
        ):
            log.info("job.waits", reason=stop_reason(error))
            return
        if resume_at is not None and job.stop_requested == Job.Stop.PAUSE:
            stop_as_requested(job)
            return
        end(job, state=Job.State.FAILED, reason=stop_reason(error), error=public_message(error))
    except ClaimLost:
        log.warning("job.claim_lost")


def _resume_at(job: Job, error: Exception, failures: int) -> datetime | Combinable | None:
    """When the job continues after the error, by the quota's clock; None when the job fails.

    `failures`: how often ISBNdb or the database has failed in this step.
    """
    if isinstance(error, QuotaRefused) and error.limit != "midnight":
        return _after_refusal(job, error)
    if isinstance(error, QuotaRefused | ReservationClosed):  # at midnight, the new quota is seconds away
        return QuotaNow() + MidnightGuard() + MidnightGuard()
    if isinstance(error, _PERMANENT) or failures >= MAX_ATTEMPTS:
        return None
    if isinstance(error, QuotaError):
        return _later(_a_short_wait())
    pause = pause_after(failures)
    if isinstance(error, IsbndbUnavailable) and error.retry_after is not None:
        pause = max(pause, min(timedelta(seconds=error.retry_after), MAX_PAUSE))
    return _later(pause)


def _after_refusal(job: Job, refusal: QuotaRefused) -> datetime | Combinable | None:
    consumer = job.consumer.slug
    if refusal.free or may_come_free(refusal, consumer=consumer):  # the next batch is cut to what is free by then
        return _later(_a_short_wait())
    never = forecast(1, consumer=consumer).finish_at is None
    if refusal.retry_at is None or never or job.on_exhausted == Job.OnExhausted.FAIL:
        return None
    return Value(refusal.retry_at + MIDNIGHT_SPREAD * uniform(0, 1)) + MidnightGuard()  # noqa: S311


def _a_short_wait() -> timedelta:
    """SHORT_WAIT or a little more, so that jobs do not all return at the same moment."""
    return SHORT_WAIT * uniform(1, 1.5)  # noqa: S311


def _later(pause: timedelta) -> Combinable:
    moment: Combinable = QuotaNow() + pause
    return moment
