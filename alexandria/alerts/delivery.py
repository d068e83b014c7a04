"""Sends the messages that `services` has written. Each is tried until it is delivered or has failed too often.

A sender claims a message when it moves the time of the next attempt into the future. If the sender dies, that next
attempt sends the message. So each message is sent at least once, always with the same id.
"""

import random
import time
import uuid
from datetime import timedelta

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet

from alexandria.alerts import webhooks
from alexandria.alerts.exceptions import AlertError, NothingToRetry, NotSent
from alexandria.alerts.models import Delivery, Webhook
from alexandria.alerts.services import new_message
from alexandria.common.addresses import AddressRefused
from quota.database import QuotaNow
from quota.selectors.status import get_status

log = structlog.get_logger(__name__)

PAUSES = tuple(timedelta(seconds=seconds) for seconds in (30, 2 * 60, 10 * 60, 60 * 60, 3 * 60 * 60))
"""The pauses before the second and each later attempt, plus or minus a fifth. A test message has one attempt."""

CLAIM = timedelta(minutes=2)
"""After this time, another sender may take a claimed message: its sender has died."""

MAX_RUN_SECONDS = 20.0
"""Later, one run starts no further message. Receivers that do not answer must not keep all workers busy."""

State = Delivery.State
_IS_ABOUT_A_JOB = ExpressionWrapper(Q(event__startswith="job."), output_field=BooleanField())


def deliver_due() -> int:
    """Sends due messages, also those that become due meanwhile, for at most MAX_RUN_SECONDS. The others stay due.

    Returns how many were delivered.
    """
    end = time.monotonic() + MAX_RUN_SECONDS
    delivered = 0
    silent = set[str]()  # who does not answer is asked once in a run, so that one receiver does not delay all others
    while time.monotonic() < end:
        message = _due().exclude(to__in=silent).first()
        if message is None:
            break
        if (result := _deliver(message.pk)) is not None:
            delivered += result.state == State.DELIVERED
            if result.error and result.status is None:
                silent.add(result.to)
    return delivered


def are_due() -> bool:
    return _due().exists()


def send_test(webhook: Webhook | None) -> Delivery:
    """Sends a test message now, to the webhook or (with None) by e-mail. Returns it with its result."""
    message = new_message(Delivery.Event.TEST, now=get_status().now, webhook=webhook)
    message.save(force_insert=True)
    _deliver(message.pk)
    message.refresh_from_db()
    return message


def retry(message_id: uuid.UUID) -> Delivery:
    """Sends a message that was given up again: now and, if that fails, later. Returns it with its result.

    Raises NothingToRetry.
    """
    failed = Delivery.objects.filter(pk=message_id, state=State.FAILED)
    if failed.update(state=State.PENDING, next_attempt_at=QuotaNow(), ended_at=None, attempts=0) != 1:
        raise NothingToRetry("Only a message that was given up can be sent again.")
    _deliver(message_id)
    return Delivery.objects.get(pk=message_id)


def _due() -> QuerySet[Delivery]:
    """The messages to send now: alerts first, because a client can make many jobs."""
    due = Delivery.objects.filter(state=State.PENDING, next_attempt_at__lte=QuotaNow())
    return due.order_by(_IS_ABOUT_A_JOB, "next_attempt_at")


def _deliver(message_id: uuid.UUID) -> Delivery | None:
    """Makes one attempt and returns the message with its result; None when another sender has claimed it."""
    due = Delivery.objects.filter(pk=message_id, state=State.PENDING, next_attempt_at__lte=QuotaNow())
    if due.update(next_attempt_at=QuotaNow() + CLAIM, attempts=F("attempts") + 1) != 1:
        return None
    message = Delivery.objects.select_related("webhook", "alert").get(pk=message_id)
    started = time.monotonic()
    try:
        status, error = _send(message), ""
    except (AlertError, AddressRefused) as failure:
        status, error = getattr(failure, "status", None), str(failure)
    result = {"status": status, "error": error, "latency_ms": round(1000 * (time.monotonic() - started))}
    message.status, message.error = status, error
    ours = Delivery.objects.filter(pk=message_id, state=State.PENDING, attempts=message.attempts)
    logger = log.bind(delivery=str(message_id), channel=message.channel, to=message.to, **result)
    if not error:
        message.state = State.DELIVERED
        ours.update(state=State.DELIVERED, next_attempt_at=None, ended_at=QuotaNow(), **result)
        logger.info("alert.delivered")
    elif message.event == Delivery.Event.TEST or message.attempts > len(PAUSES):
        ours.update(state=State.FAILED, next_attempt_at=None, ended_at=QuotaNow(), **result)
        logger.error("alert.delivery_given_up")
    else:
        pause = PAUSES[message.attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311
        ours.update(next_attempt_at=QuotaNow() + pause, **result)
        logger.warning("alert.delivery_failed", attempt=message.attempts)
    return message


def _send(message: Delivery) -> int | None:
    """The HTTP status, or None for e-mail. Raises AddressRefused and NotSent."""
    if message.channel == Delivery.Channel.EMAIL:
        _send_mail(message)
        return None
    if message.webhook is None or not message.webhook.active:
        raise NotSent("The webhook is switched off or was deleted.")
    if not (message.url or message.webhook.url):
        raise NotSent("The webhook has no address.")
    return webhooks.send(message.webhook, message_id=str(message.pk), payload=message.payload, url=message.url)


def _send_mail(message: Delivery) -> None:
    if not settings.ALERT_EMAIL_TO:
        raise NotSent("ALERT_EMAIL_TO is empty. Set it to send e-mail.")
    subject, text = _mail(message)
    thread = f"<{message.alert_id or message.pk}@alerts.alexandria>"
    mail = EmailMessage(
        subject,
        text,
        from_email=settings.ALERT_EMAIL_FROM,
        to=settings.ALERT_EMAIL_TO,
        headers={"Message-ID": f"<{message.pk}@alerts.alexandria>", "References": thread},
    )
    try:
        mail.send()
    except OSError as error:  # the errors of smtplib are OSErrors too
        raise NotSent(f"{type(error).__name__}: {error}"[:500]) from error


def _mail(message: Delivery) -> tuple[str, str]:
    """Subject and text."""
    data = message.payload["data"]
    alert = data["alert"]
    if alert is None:
        return f"[{data['service']}] Test", "This is a test. Alerts of Alexandria reach you.\n"
    word = "Recovered" if alert["recovered_at"] else alert["severity"].capitalize()
    lines = [alert["title"], "", alert["detail"], "", f"Severity: {alert['severity']}", f"Opened: {alert['opened_at']}"]
    if alert["recovered_at"]:
        lines.append(f"Recovered: {alert['recovered_at']}")
    return f"[{data['service']}] {word}: {alert['title']}", "\n".join([*lines, f"Alert: {alert['key']}", ""])
