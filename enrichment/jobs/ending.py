"""How a job ends."""

from typing import Any

import structlog

from enrichment.jobs.claims import held, pause, put_back
from enrichment.jobs.events import job_changed
from enrichment.jobs.registry import handler_of
from enrichment.models import Job
from quota.database import QuotaNow
from quota.selectors.status import calls_spent

log = structlog.get_logger(__name__)


def end(job: Job, *, state: Job.State, reason: str = "", error: str = "") -> None:
    """Ends a job that this runner holds. What is not done fails with `error`, so it can be retried. Raises ClaimLost.

    If somebody has requested a cancel and the job fails, it ends as cancelled, because the API has promised that.
    """
    calls = calls_spent(source=job.source)
    with held(job):
        if job.cancel_requested and state != Job.State.SUCCEEDED:
            cancel(job, calls=calls)
        else:
            close(job, state=state, calls=calls, reason=reason, error=error)


def stop_as_requested(job: Job) -> bool:
    """Pauses or cancels a job that this runner holds, as somebody has requested. Raises ClaimLost.

    Returns False and keeps the claim when the request has been taken back.
    """
    calls = calls_spent(source=job.source)
    with held(job):
        if job.stop_requested == Job.Stop.PAUSE:
            pause(job, reason="paused", error="Paused.")
        elif job.cancel_requested:
            cancel(job, calls=calls)
        else:
            return False
    return True


def put_back_or_stop(job: Job, *, state: Job.State, resume_at: Any, **fields: Any) -> bool:
    """Gives up the claim: puts the job back (see `put_back`), or stops it as somebody has requested.

    Returns whether the job was put back. Raises ClaimLost.
    """
    while not put_back(job, state=state, resume_at=resume_at, **fields):
        if stop_as_requested(job):
            return False
    return True


def cancel(job: Job, *, calls: int) -> None:
    """Ends a job whose row is locked, as cancelled. `calls`: see `close`."""
    close(job, state=Job.State.CANCELLED, calls=calls, reason="cancelled", error="Cancelled.")


def close(job: Job, *, state: Job.State, calls: int, reason: str = "", error: str = "") -> None:
    """Ends a job whose row is locked. `calls`: what it has spent, read before this transaction."""
    job.stopped_reason, job.error = reason, error
    handler_of(job).fail_rest()
    job.result = handler_of(job).result() | {"api_calls": calls}
    job.state, job.ended_at = state, QuotaNow()
    job.runner = job.lease_until = job.resume_at = None
    columns = ("state", "ended_at", "runner", "lease_until", "resume_at", "result", "stopped_reason", "error")
    job.save(update_fields=columns)
    job_changed.send(sender=Job, job_id=job.pk)
    log.info("job.ended", job=str(job.pk), state=state.value, reason=reason, calls=calls)
