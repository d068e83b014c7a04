from celery import shared_task

from enrichment.books.aside import store_aside
from enrichment.jobs import lifecycle, workers


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_job(job_id: str = "") -> None:
    """Runs the next job for a turn. `job_id`: messages of 0.1.0 have one, which does not matter any more."""
    workers.run_job()


@shared_task
def resume_jobs() -> int:
    """Stores what was put aside, so that no job asks for it again. Then `lifecycle.resume_jobs`."""
    store_aside()
    return lifecycle.resume_jobs()
