import uuid

from celery import shared_task

from enrichment.jobs import lifecycle, runner


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_job(job_id: str) -> None:
    """Runs a job until it ends, has to wait, or its turn is over."""
    runner.run_job(uuid.UUID(job_id))


@shared_task
def resume_jobs() -> int:
    """Sends the jobs whose wait is over or whose worker died; returns how many."""
    return lifecycle.resume_jobs()
