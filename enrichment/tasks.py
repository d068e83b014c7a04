from celery import shared_task

from enrichment.jobs import lifecycle, workers


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_job(job_id: str = "") -> None:
    """Runs the next job for a turn. `job_id`: messages of 0.1.0 have one, which does not matter any more."""
    workers.run_job()


@shared_task
def resume_jobs() -> int:
    """Sends the jobs whose wait is over or whose worker died; returns how many."""
    return lifecycle.resume_jobs()
