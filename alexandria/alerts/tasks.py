"""The Celery tasks of the alerts."""

from celery import shared_task

from alexandria.alerts import delivery, services


@shared_task
def check_alerts() -> None:
    """Opens and ends alerts, and queues the sending of due messages."""
    services.check()
    if delivery.are_due():
        deliver_alerts.delay()


@shared_task
def deliver_alerts() -> None:
    """Sends due messages. It is a task of its own, so that a slow receiver does not delay the checks."""
    delivery.deliver_due()
