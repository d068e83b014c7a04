"""Alerts, webhooks, and each message with its result. See docs/alerts.md, and docs/jobs.md for messages about jobs."""

import secrets
import uuid

from django.db import models
from django.db.models import Q

from alexandria.common.addresses import MAX_LENGTH, host_of
from enrichment.models import Job
from quota.models import Consumer

MAX_TO_LENGTH = 200
"""How many characters of a receiver are kept. The name of a host can have 253."""


class Severity(models.TextChoices):
    """In rising order. `rank` is for sorting and comparing."""

    INFO = "info", "info"
    WARNING = "warning", "warning"
    CRITICAL = "critical", "critical"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)

    @property
    def and_below(self) -> list["Severity"]:
        return list(Severity)[: self.rank + 1]


def new_seed() -> str:
    return secrets.token_urlsafe(32)


class Alert(models.Model):
    """A problem, from the first check that found it until it is over."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    key = models.CharField(
        max_length=200, help_text="Identifies the cause. There is at most one open alert for each key."
    )
    rule = models.CharField(max_length=32)
    severity = models.CharField(max_length=8, choices=Severity.choices)
    title = models.CharField(max_length=200)
    detail = models.TextField(help_text="The figures of the last check that found it.")
    opened_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    recovered_at = models.DateTimeField(null=True, blank=True, help_text="Empty while the alert is open.")

    class Meta:
        ordering = ["-opened_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["key"], condition=Q(recovered_at=None), name="alerts_alert_one_open_of_a_key"
            ),
            models.CheckConstraint(
                condition=Q(severity__in=["info", "warning", "critical"]), name="alerts_alert_severity_known"
            ),
        ]
        indexes = [models.Index(fields=["-opened_at"], name="alerts_alert_latest")]

    def __str__(self) -> str:
        return self.title


class Webhook(models.Model):
    """An address that receives a signed request when an alert opens or recovers.

    With a consumer, it receives messages about the jobs of that consumer instead. Its secret also signs the messages
    to the addresses that these jobs name. There may then be no address.

    The signing secret is not stored. It is computed from `seed` and SECRET_KEY, so a copy of the database does not
    reveal it.
    """

    name = models.CharField(max_length=80, unique=True)
    consumer = models.OneToOneField(
        Consumer,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        help_text="It receives messages about the jobs of this consumer. Empty: it receives alerts.",
    )
    url = models.CharField(
        "address",
        max_length=MAX_LENGTH,
        blank=True,
        help_text="https://… with a public IP address. The path can be secret. Empty: only jobs that name an address "
        "are reported.",
    )
    min_severity = models.CharField(
        "lowest severity",
        max_length=8,
        choices=Severity.choices,
        default=Severity.INFO,
        help_text="Alerts below it are not sent. For jobs, it means nothing.",
    )
    active = models.BooleanField(
        default=True, help_text="Sends messages. Off for a consumer: also to the addresses that its jobs name."
    )
    seed = models.CharField(max_length=64, default=new_seed, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(min_severity__in=["info", "warning", "critical"]),
                name="alerts_webhook_severity_known",
            ),
            models.CheckConstraint(
                condition=Q(consumer__isnull=False) | ~Q(url=""), name="alerts_webhook_for_alerts_has_address"
            ),
        ]
        permissions = [("test_webhook", "Can send a test message")]

    def __str__(self) -> str:
        return self.name

    @property
    def host(self) -> str:
        """The part of the address that everybody may see."""
        return host_of(self.url)


class Delivery(models.Model):
    """One message to one channel, with its result."""

    class Event(models.TextChoices):
        OPENED = "alert.opened", "opened"
        RECOVERED = "alert.recovered", "recovered"
        TEST = "alert.test", "test"
        JOB_SUCCEEDED = "job.succeeded", "job succeeded"
        JOB_FAILED = "job.failed", "job failed"
        JOB_WAITING = "job.waiting", "job waits"

    class State(models.TextChoices):
        PENDING = "pending", "waiting"
        DELIVERED = "delivered", "delivered"
        FAILED = "failed", "given up"

    class Channel(models.TextChoices):
        EMAIL = "email", "e-mail"
        WEBHOOK = "webhook", "webhook"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, null=True, blank=True, related_name="deliveries")
    job = models.ForeignKey(Job, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    event = models.CharField(max_length=16, choices=Event.choices)
    channel = models.CharField(max_length=8, choices=Channel.choices)
    webhook = models.ForeignKey(
        Webhook,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="deliveries",
        help_text="Empty for e-mail.",
    )
    url = models.CharField(
        "address", max_length=MAX_LENGTH, blank=True, db_default="", help_text="Of the job. Empty: that of the webhook."
    )
    to = models.CharField(
        max_length=MAX_TO_LENGTH,
        help_text="The name of the webhook, the host that a job names, or the e-mail addresses.",
    )
    payload = models.JSONField(help_text="The body. It is the same in every attempt.")
    state = models.CharField(max_length=9, choices=State.choices, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(
        null=True, blank=True, help_text="When it is sent. While a worker sends it: when another worker may take it."
    )
    status = models.PositiveSmallIntegerField(null=True, blank=True, help_text="The HTTP status of the last answer.")
    latency_ms = models.PositiveIntegerField(
        "took", null=True, blank=True, help_text="The duration of the last attempt, in milliseconds."
    )
    error = models.TextField(blank=True, help_text="Why the last attempt failed.")
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        verbose_name_plural = "deliveries"
        constraints = [
            models.CheckConstraint(
                condition=Q(state="pending", ended_at=None, next_attempt_at__isnull=False)
                | Q(state__in=["delivered", "failed"], ended_at__isnull=False, next_attempt_at=None),
                name="alerts_delivery_pending_has_next_attempt",
            ),
            models.CheckConstraint(
                condition=Q(channel="webhook") | Q(channel="email", webhook=None),
                name="alerts_delivery_channel_known",
            ),
        ]
        indexes = [
            models.Index(fields=["next_attempt_at"], condition=Q(state="pending"), name="alerts_delivery_due"),
            models.Index(fields=["-created_at"], name="alerts_delivery_latest"),
        ]
        permissions = [("retry_delivery", "Can send a failed message again")]

    def __str__(self) -> str:
        return f"{self.get_event_display()} to {self.to}"
