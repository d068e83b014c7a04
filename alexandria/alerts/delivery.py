"""Sending the messages that `services` has written: each until it is through, or was tried often enough.

A message is claimed by putting its next attempt off; whoever dies with it in hand leaves it to that attempt. It is sent
at least once, with the same id each time.
"""

import random
import time
import uuid
from datetime import timedelta
from itertools import takewhile

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import F

from alexandria.alerts import webhooks
from alexandria.alerts.exceptions import AlertError, NothingToRetry, NotSent
from alexandria.alerts.models import Delivery, Webhook
from alexandria.alerts.services import new_message
from quota.database import QuotaNow
from quota.selectors.status import get_status

log = structlog.get_logger(__name__)

PAUSES = tuple(timedelta(seconds=seconds) for seconds in (30, 2 * 60, 10 * 60, 60 * 60, 3 * 60 * 60))
"""Before the second attempt and those after it, a fifth more or less. A test has one attempt."""

CLAIM = timedelta(minutes=2)
"""A message that is being sent for so long was lost with its sender."""

TURN = 20.0
"""Seconds after which no further message is begun: receivers that do not answer must not keep all workers busy."""

State = Delivery.State


def deliver_due() -> int:
    """Sends the messages whose time has come, for a TURN; returns how many got through. The rest stays due."""
    end = time.monotonic() + TURN
    due = Delivery.objects.filter(state=State.PENDING, next_attempt_at__lte=QuotaNow()).order_by("next_attempt_at")
    in_time = takewhile(lambda _: time.monotonic() < end, due.values_list("pk", flat=True))
    return sum(_deliver(message) for message in in_time)


def are_due() -> bool:
    return Delivery.objects.filter(state=State.PENDING, next_attempt_at__lte=QuotaNow()).exists()


def send_test(webhook: Webhook | None) -> Delivery:
    """Sends a test message now, to the webhook or, without one, by e-mail, and returns what became of it."""
    message = new_message(Delivery.Event.TEST, now=get_status().now, webhook=webhook)
    message.save(force_insert=True)
    _deliver(message.pk)
    message.refresh_from_db()
    return message


def retry(message_id: uuid.UUID) -> Delivery:
    """Sends a message that was given up once more now, and if need be again later; returns what became of it.

    Raises NothingToRetry.
    """
    given_up = Delivery.objects.filter(pk=message_id, state=State.FAILED)
    if given_up.update(state=State.PENDING, next_attempt_at=QuotaNow(), ended_at=None, attempts=0) != 1:
        raise NothingToRetry("Only a message that was given up can be sent again.")
    _deliver(message_id)
    return Delivery.objects.get(pk=message_id)


def _deliver(message_id: uuid.UUID) -> bool:
    """Makes one attempt, if the message is to be had; whether it got through."""
    due = Delivery.objects.filter(pk=message_id, state=State.PENDING, next_attempt_at__lte=QuotaNow())
    if due.update(next_attempt_at=QuotaNow() + CLAIM, attempts=F("attempts") + 1) != 1:
        return False
    message = Delivery.objects.select_related("webhook", "alert").get(pk=message_id)
    started = time.monotonic()
    try:
        status, error = _send(message), ""
    except AlertError as failure:
        status, error = getattr(failure, "status", None), str(failure)
    result = {"status": status, "error": error, "latency_ms": round(1000 * (time.monotonic() - started))}
    ours = Delivery.objects.filter(pk=message_id, state=State.PENDING, attempts=message.attempts)
    say = log.bind(delivery=str(message_id), channel=message.channel, to=message.to, **result)
    if not error:
        ours.update(state=State.DELIVERED, next_attempt_at=None, ended_at=QuotaNow(), **result)
        say.info("alert.delivered")
    elif message.event == Delivery.Event.TEST or message.attempts > len(PAUSES):
        ours.update(state=State.FAILED, next_attempt_at=None, ended_at=QuotaNow(), **result)
        say.error("alert.delivery_given_up")
    else:
        pause = PAUSES[message.attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311
        ours.update(next_attempt_at=QuotaNow() + pause, **result)
        say.warning("alert.delivery_failed", attempt=message.attempts)
    return not error


def _send(message: Delivery) -> int | None:
    """The HTTP status, where there is one. Raises AddressRefused and NotSent."""
    if message.channel == Delivery.Channel.EMAIL:
        _send_mail(message)
        return None
    if message.webhook is None or not message.webhook.active:
        raise NotSent("The webhook is switched off, or there is none any more.")
    return webhooks.send(message.webhook, message_id=str(message.pk), payload=message.payload)


def _send_mail(message: Delivery) -> None:
    if not settings.ALERT_EMAIL_TO:
        raise NotSent("ALERT_EMAIL_TO is empty: there is nobody to send mail to.")
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
    except OSError as error:  # smtplib's errors are OSErrors too
        raise NotSent(f"{type(error).__name__}: {error}"[:500]) from error


def _mail(message: Delivery) -> tuple[str, str]:
    """Subject and text."""
    data = message.payload["data"]
    alert = data["alert"]
    if alert is None:
        return f"[{data['service']}] Test", "This is a test: alerts of Alexandria reach you.\n"
    word = "Recovered" if alert["recovered_at"] else alert["severity"].capitalize()
    lines = [alert["title"], "", alert["detail"], "", f"Severity: {alert['severity']}", f"Opened: {alert['opened_at']}"]
    if alert["recovered_at"]:
        lines.append(f"Recovered: {alert['recovered_at']}")
    return f"[{data['service']}] {word}: {alert['title']}", "\n".join([*lines, f"Alert: {alert['key']}", ""])
