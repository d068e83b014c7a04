"""Opens and ends alerts, and writes the messages that `delivery` sends."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from alexandria.alerts.models import MAX_TO_LENGTH, Alert, Delivery, Severity, Webhook
from alexandria.alerts.rules import QUEUES, Finding, but_lower_steps, find
from alexandria.alerts.snapshot import take_snapshot
from alexandria.common.addresses import host_of
from alexandria.logins.throttling import prune_log_ins
from enrichment.models import Job
from quota.models import Consumer

log = structlog.get_logger(__name__)

HOLD = timedelta(minutes=2)
"""An alert is over when its cause has been gone for this time. So a problem that comes and goes is reported once."""


@dataclass(frozen=True)
class Checked:
    """What one check found, and the alerts that it opened and ended."""

    findings: list[Finding]
    opened: list[Alert]
    recovered: list[Alert]


def check() -> Checked:
    """Applies the rules, opens and ends alerts, and writes the messages that `delivery` sends.

    Checks may run at the same time: an alert still opens once and ends once. Raises QuotaUnavailable.
    """
    findings, now = _judge()
    opened, recovered = apply(findings, now=now)
    return Checked(findings, opened, recovered)


def would_check() -> Checked:
    """Like `check`, but writes nothing. The alerts in `opened` are not in the database."""
    findings, now = _judge()
    known = _open_keys()
    opened = [_new(finding, now) for finding in findings if finding.key not in known]
    return Checked(findings, opened, list(_over(findings, now)))


def apply(findings: Sequence[Finding], *, now: datetime) -> tuple[list[Alert], list[Alert]]:
    """Opens alerts for new findings and ends alerts without a finding. Returns the opened and the ended ones.

    It also deletes old alerts and messages, because nothing else does.

    `now`: the quota's clock at the time of the findings.
    """
    recovered = []
    with transaction.atomic(durable=True):
        # ON CONFLICT DO NOTHING waits when another check opens the same alert. The row is then the other check's.
        new = Alert.objects.bulk_create([_new(finding, now) for finding in findings], ignore_conflicts=True)
        opened = list(Alert.objects.filter(pk__in=[alert.pk for alert in new]))
        for finding in findings:
            still = Alert.objects.filter(key=finding.key, recovered_at=None, last_seen_at__lt=now)
            still.update(last_seen_at=now, detail=finding.detail)
        for alert in _over(findings, now).order_by("pk").select_for_update(no_key=True):
            alert.recovered_at = now
            alert.save(update_fields=["recovered_at"])
            recovered.append(alert)
        messages = [message for alert in opened for message in _messages(Delivery.Event.OPENED, alert=alert, now=now)]
        by_mail = but_lower_steps(recovered)  # one e-mail is enough to report that the day is over
        for alert in recovered:
            messages += _messages(Delivery.Event.RECOVERED, alert=alert, now=now, by_mail=alert in by_mail)
        Delivery.objects.bulk_create(messages)
        _prune(now)
    for alert in opened:
        log.warning("alert.opened", key=alert.key, severity=alert.severity, title=alert.title)
    for alert in recovered:
        log.info("alert.recovered", key=alert.key, severity=alert.severity, title=alert.title)
    return opened, recovered


def new_message(
    event: Delivery.Event,
    *,
    now: datetime,
    alert: Alert | None = None,
    webhook: Webhook | None = None,
    job: Job | None = None,
    about_job: dict[str, object] | None = None,
) -> Delivery:
    """A message that is due now, to the webhook or (without one) by e-mail. It is not saved.

    About a job, with what is said of it in `about_job`, it goes to the address that the job names, if it names one.
    """
    url = job.notify_url if job else ""
    to = host_of(url) or (webhook.name if webhook else ", ".join(settings.ALERT_EMAIL_TO))
    message = Delivery(
        event=event,
        alert=alert,
        job=job,
        webhook=webhook,
        channel=Delivery.Channel.WEBHOOK if webhook else Delivery.Channel.EMAIL,
        url=url,
        to=to[:MAX_TO_LENGTH],
        next_attempt_at=now,
        created_at=now,
    )
    subject = {"job": about_job} if job else {"alert": _alert(alert) if alert else None}
    message.payload = {
        "id": str(message.pk),
        "type": event.value,
        "timestamp": _iso(now),
        "data": {"service": settings.SERVICE_NAME, **subject},
    }
    return message


def webhook_of(consumer: Consumer) -> Webhook:
    """The webhook of the consumer's jobs. It is made if there is none, without an address: its secret is needed."""
    # The number makes the name unique: a slug can change, and staff may have given the name without it.
    new = Webhook(consumer=consumer, name=f"jobs of {consumer.slug} #{consumer.pk}")
    Webhook.objects.bulk_create([new], ignore_conflicts=True)
    return Webhook.objects.get(consumer=consumer)


def _judge() -> tuple[list[Finding], datetime]:
    """The findings of this moment, without those that may only keep an alert open and have none."""
    snapshot, known = take_snapshot(expected_queues=QUEUES), _open_keys()
    return [finding for finding in find(snapshot) if finding.opens or finding.key in known], snapshot.status.now


def _open_keys() -> set[str]:
    return set(Alert.objects.filter(recovered_at=None).values_list("key", flat=True))


def _new(finding: Finding, now: datetime) -> Alert:
    return Alert(
        key=finding.key,
        rule=finding.rule,
        severity=finding.severity,
        title=finding.title,
        detail=finding.detail,
        opened_at=now,
        last_seen_at=now,
    )


def _over(findings: Sequence[Finding], now: datetime) -> QuerySet[Alert]:
    gone = Alert.objects.filter(recovered_at=None, last_seen_at__lte=now - HOLD)
    return gone.exclude(key__in=[finding.key for finding in findings])


def _messages(event: Delivery.Event, *, alert: Alert, now: datetime, by_mail: bool = True) -> list[Delivery]:
    """One for each channel that receives this severity."""
    severity = Severity(alert.severity)
    webhooks = Webhook.objects.filter(consumer=None, active=True, min_severity__in=severity.and_below)
    messages = [new_message(event, now=now, alert=alert, webhook=webhook) for webhook in webhooks]
    if by_mail and settings.ALERT_EMAIL_TO and severity.rank >= Severity(settings.ALERT_EMAIL_SEVERITY).rank:
        messages.append(new_message(event, now=now, alert=alert))
    return messages


def _alert(alert: Alert) -> dict[str, str | None]:
    return {
        "id": str(alert.pk),
        "key": alert.key,
        "rule": alert.rule,
        "severity": alert.severity,
        "title": alert.title,
        "detail": alert.detail,
        "opened_at": _iso(alert.opened_at),
        "recovered_at": _iso(alert.recovered_at) if alert.recovered_at else None,
    }


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _prune(now: datetime) -> None:
    """Deletes alerts and messages that ended more than JOURNAL_KEEP_DAYS ago, and old attempts to log in."""
    before = now - timedelta(days=settings.JOURNAL_KEEP_DAYS)
    Alert.objects.filter(recovered_at__lt=before).delete()
    Delivery.objects.filter(~Q(state=Delivery.State.PENDING), created_at__lt=before).delete()
    prune_log_ins()
