"""How a job ends."""

import structlog

from enrichment.jobs.claims import held, pause
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


def stop_as_requested(job: Job) -> None:
    """Pauses or cancels a job that this runner holds, as somebody has requested. Raises ClaimLost."""
    calls = calls_spent(source=job.source)
    with held(job):
        if job.stop_requested == Job.Stop.PAUSE:
            pause(job, reason="paused", error="Paused.")
        else:
            cancel(job, calls=calls)


def cancel(job: Job, *, calls: int) -> None:
    """Ends a job whose row is locked, as cancelled. `calls`: see `close`."""
    close(job, state=Job.State.CANCELLED, calls=calls, reason="cancelled", error="Cancelled.")


def close(job: Job, *, state: Job.State, calls: int, reason: str = "", error: str = "") -> None:
    """Ends a job whose row is locked. `calls`: what it has spent, read before this transaction."""
    job.stopped_reason, job.error = reason, error
    handler_of(job).fail_rest(job)
    job.result = handler_of(job).result(job) | {"api_calls": calls}
    job.state, job.ended_at = state, QuotaNow()
    job.runner = job.lease_until = job.resume_at = None
    columns = ("state", "ended_at", "runner", "lease_until", "resume_at", "result", "stopped_reason", "error")
    job.save(update_fields=columns)
    log.info("job.ended", job=str(job.pk), state=state.value, reason=reason, calls=calls)
