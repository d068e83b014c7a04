"""The Celery tasks of the alerts."""

from celery import shared_task
from django.core.cache import cache
from django_redis.exceptions import ConnectionInterrupted

from alexandria.alerts import delivery, services
from alexandria.common.publishing import publish

SENDER = "alerts:sender"
LEASE_SECONDS = 60
"""More than a run takes with its last attempt. After the death of a sender, another one begins after this time."""


@shared_task
def check_alerts() -> None:
    """Opens and ends alerts, and queues the sending of due messages."""
    services.check()
    if delivery.are_due():
        publish("alexandria.alerts.tasks.deliver_alerts")


@shared_task
def deliver_alerts() -> None:
    """Sends due messages. It is a task of its own, so that a slow receiver does not delay the checks.

    When another worker is at it, that worker sends them: many jobs whose receiver does not answer keep one worker busy,
    and not all. What becomes due as it stops is sent after the next check.
    """
    try:
        is_alone = cache.add(SENDER, 1, LEASE_SECONDS)
    except ConnectionInterrupted:  # each message is claimed anyway
        delivery.deliver_due()
        return
    if is_alone:
        try:
            delivery.deliver_due()
        finally:
            cache.delete(SENDER)
