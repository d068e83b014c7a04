"""What beat schedules and workers do."""

from celery import shared_task

from harvest import services


@shared_task
def run_cron(name: str, *, scheduled: bool = True) -> None:
    """Runs a cron for a tick of its schedule or, when not `scheduled`, because somebody wants it now."""
    services.run_cron(name, scheduled=scheduled)
