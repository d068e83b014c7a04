from celery import shared_task

from enrichment.books.aside import store_aside
from enrichment.jobs import lifecycle, workers


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_job() -> None:
    """Runs the next job for a turn."""
    workers.run_job()


@shared_task
def resume_jobs() -> int:
    """Stores what was put aside, so that no job asks for it again. Then `lifecycle.resume_jobs`."""
    store_aside()
    return lifecycle.resume_jobs()
