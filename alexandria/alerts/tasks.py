"""What beat schedules and workers do for the alerts."""

from celery import shared_task

from alexandria.alerts import delivery, services


@shared_task
def check_alerts() -> None:
    """Opens and recovers alerts, and has due messages sent."""
    services.check()
    if delivery.are_due():
        deliver_alerts.delay()


@shared_task
def deliver_alerts() -> None:
    """Sends the messages whose time has come: apart from the checks, which a slow receiver must not hold up."""
    delivery.deliver_due()
