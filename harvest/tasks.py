"""The tasks that beat schedules and workers run."""

from celery import shared_task

from alexandria.common.database import OUT_OF_REACH
from harvest import runs
from quota.exceptions import QuotaUnavailable


@shared_task(autoretry_for=(QuotaUnavailable, *OUT_OF_REACH), retry_backoff=5, retry_backoff_max=600, max_retries=12)
def run_cron(name: str, *, scheduled: bool = True) -> None:
    """Runs a cron for a tick of its schedule. With `scheduled=False` it runs now, because a person asked on a page.

    When PostgreSQL is out of reach, the tick stays open and the task tries again for up to an hour. So a short outage
    does not cost a daily cron its day.
    """
    runs.run_cron(name, scheduled=scheduled, by_hand=not scheduled)
