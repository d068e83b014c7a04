"""What beat schedules and workers do."""

from celery import shared_task

from alexandria.common.database import OUT_OF_REACH
from harvest import runs
from quota.exceptions import QuotaUnavailable


@shared_task(autoretry_for=(QuotaUnavailable, *OUT_OF_REACH), retry_backoff=5, retry_backoff_max=600, max_retries=12)
def run_cron(name: str, *, scheduled: bool = True) -> None:
    """Runs a cron for a tick of its schedule or, when not `scheduled`, because somebody wants it now.

    When PostgreSQL is out of reach, the tick is not taken: it is tried again, for up to an hour, so that a moment
    does not cost a daily cron its day.
    """
    runs.run_cron(name, scheduled=scheduled)
