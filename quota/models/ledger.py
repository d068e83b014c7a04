"""Consumers, and the ledgers, reservations and calls of each day. docs/quota.md explains the words.

Only the SQL functions of `quota/sql/functions.sql` write ledgers, usage and reservations. Each of them first locks the
day's ledger row. PostgreSQL compiles every check constraint again for every statement, while that lock is held.
Reservations, usage and journal therefore have as few constraints as possible.
"""

import uuid
from typing import Any

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from rest_framework_api_key.models import AbstractAPIKey, BaseAPIKeyManager
from simple_history.models import HistoricalRecords


class Consumer(models.Model):
    """Something that spends calls: an API client, a cron, the bulk harvest."""

    class Kind(models.TextChoices):
        API = "api", "API client"
        CRON = "cron", "cron"
        BULK = "bulk", "bulk work"

    slug = models.SlugField(max_length=64, unique=True)
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.API)
    floor = models.PositiveIntegerField(
        default=0, help_text="Calls that must stay free for others after this consumer has taken its own."
    )
    daily_budget = models.PositiveIntegerField(
        null=True, blank=True, help_text="Maximum number of calls in a UTC day. Empty: no budget."
    )
    cap_per_operation = models.PositiveIntegerField(
        null=True, blank=True, help_text="Maximum number of calls for one operation. Empty: no cap."
    )
    active = models.BooleanField(default=True, help_text="Only an active consumer gets calls and can use its API keys.")
    created_at = models.DateTimeField(auto_now_add=True)
    history = HistoricalRecords()

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=["api", "cron", "bulk"]), name="quota_consumer_kind_known"),
        ]

    def __str__(self) -> str:
        return self.slug


class ConsumerKeyManager(BaseAPIKeyManager):
    def get_usable_keys(self) -> "models.QuerySet[ConsumerKey]":
        return super().get_usable_keys().select_related("consumer")


class ConsumerKey(AbstractAPIKey):
    """An API key of a consumer; only its hash is stored."""

    objects = ConsumerKeyManager()  # type: ignore[misc, assignment]  # the library names its own class
    consumer = models.ForeignKey(Consumer, on_delete=models.CASCADE, related_name="keys")
    sees_all = models.BooleanField(
        "sees all",
        default=False,
        help_text="A manager's key: it can see the calls of all consumers.",
    )

    class Meta(AbstractAPIKey.Meta):
        verbose_name = "API key"
        verbose_name_plural = "API keys"


class DailyLedger(models.Model):
    """One UTC day: its own limits, what is used, what is reserved, and when the next request may be sent."""

    day = models.DateField(primary_key=True)
    daily_limit = models.PositiveIntegerField(help_text="Calls a day that ISBNdb sells us.")
    safety_buffer = models.PositiveIntegerField(help_text="Calls of the daily limit that we never use.")
    safety_limit = models.GeneratedField(
        expression=F("daily_limit") - F("safety_buffer"),
        output_field=models.IntegerField(),
        db_persist=True,
    )
    max_rps = models.PositiveIntegerField(
        validators=[MinValueValidator(1)], help_text="Maximum number of dispatches a second, for the whole fleet."
    )
    used = models.PositiveIntegerField(default=0, help_text="Calls.")
    reserved = models.PositiveIntegerField(default=0, help_text="Calls.")
    requests = models.PositiveIntegerField(default=0, help_text="Requests dispatched. Each costs its price in calls.")
    next_dispatch_at = models.DateTimeField(help_text="Nothing is sent before this moment.")
    closed_at = models.DateTimeField(
        null=True, blank=True, help_text="When ISBNdb reported that its quota of the day is used up. Empty: open."
    )
    closed_reason = models.TextField(blank=True)
    paused_until = models.DateTimeField(
        null=True, blank=True, help_text="Nothing is sent before, because of the reason. Empty: there was no pause."
    )
    paused_reason = models.TextField(blank=True, db_default="")
    settling_at = models.DateTimeField(
        null=True, blank=True, help_text="When a process last asked ISBNdb's counter what an unclear answer means."
    )
    probe_by = models.UUIDField(
        null=True, blank=True, help_text="The reservation that measures prices. Until `probe until`, only it is served."
    )
    probe_until = models.DateTimeField(null=True, blank=True)
    background_slot_at = models.DateTimeField(
        null=True, blank=True, help_text="The last send time that background work got."
    )
    opened_at = models.DateTimeField()

    class Meta:
        ordering = ["-day"]
        permissions = [("reopen_dailyledger", "Can open a closed day again")]
        constraints = [
            models.CheckConstraint(
                condition=Q(safety_buffer__lt=F("daily_limit")), name="quota_dailyledger_buffer_below_limit"
            ),
            models.CheckConstraint(condition=Q(max_rps__gte=1), name="quota_dailyledger_max_rps_positive"),
        ]

    def __str__(self) -> str:
        return self.day.isoformat()

    @property
    def is_closed(self) -> bool:
        """Whether ISBNdb has reported that the day's quota is used up."""
        return self.closed_at is not None

    @property
    def free(self) -> int:
        """The calls that are neither used nor reserved. A closed day has none."""
        return 0 if self.is_closed else max(0, self.safety_limit - self.used - self.reserved)


class ConsumerUsage(models.Model):
    """What one consumer has used and reserved on one day, and its turn when the pace makes it wait."""

    ledger = models.ForeignKey(DailyLedger, on_delete=models.PROTECT, db_column="day", related_name="usages")
    consumer = models.ForeignKey(Consumer, on_delete=models.PROTECT, related_name="usages")
    used = models.IntegerField(default=0, help_text="Calls.")
    reserved = models.IntegerField(default=0, help_text="Calls.")
    requests = models.IntegerField(default=0, help_text="Requests dispatched.")
    last_slot_at = models.DateTimeField(null=True, blank=True, help_text="The send time of its last request.")
    urgent_wait_until = models.DateTimeField(
        null=True, blank=True, help_text="Until then others give way to it, because somebody waits for its answer."
    )
    background_wait_until = models.DateTimeField(
        null=True, blank=True, help_text="Until then background work whose last slot is newer gives way to it."
    )

    class Meta:
        ordering = ["ledger", "consumer"]
        verbose_name_plural = "consumer usage"
        constraints = [
            models.CheckConstraint(condition=Q(used__gte=0, reserved__gte=0), name="quota_consumerusage_not_negative"),
            models.UniqueConstraint(fields=["ledger", "consumer"], name="quota_consumerusage_one_a_day"),
        ]

    def __str__(self) -> str:
        return f"{self.consumer_id} on {self.ledger_id}"


def _unchecked(to: type[models.Model] | str, related_name: str, *, db_index: bool = False, **options: Any) -> Any:
    """A foreign key without a database constraint, because the row is always written together with its target.

    Reservations and calls are written with the ConsumerUsage of their day and consumer, which has these constraints.
    The statement that writes a row of the journal has just read its reservation. To check all of it again would take
    a tenth of the time for which the day's ledger is locked.
    """
    return models.ForeignKey(
        to, on_delete=models.PROTECT, related_name=related_name, db_index=db_index, db_constraint=False, **options
    )


IS_OPEN = models.ExpressionWrapper(Q(state="open"), output_field=models.BooleanField())
"""Whether a reservation is open, as in its index. It sorts open reservations first."""


class Reservation(models.Model):
    """Calls reserved for one operation until they are dispatched or settled, or until the lease runs out."""

    class State(models.TextChoices):
        OPEN = "open", "open"
        SETTLED = "settled", "settled"
        EXPIRED = "expired", "expired"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    ledger = _unchecked(DailyLedger, "reservations", db_column="day")
    consumer = _unchecked(Consumer, "reservations")
    operation = models.CharField(max_length=64)
    source = models.CharField(max_length=100, blank=True, help_text="What the caller says it is for.")
    asked = models.IntegerField(help_text="Calls reserved at first.")
    calls = models.IntegerField(help_text="Calls reserved in total, including dispatched ones.")
    dispatched = models.IntegerField(default=0, help_text="Calls dispatched: the prices of its requests.")
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(help_text="The end of the lease. Every dispatch extends it.")
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        permissions = [("release_reservation", "Can release reservation")]
        constraints = [
            models.CheckConstraint(
                condition=Q(dispatched__gte=0, dispatched__lte=F("calls")),
                name="quota_reservation_dispatched_within_calls",
            ),
            models.CheckConstraint(
                condition=Q(state="open", closed_at=None) | ~Q(state="open") & Q(closed_at__isnull=False),
                name="quota_reservation_closed_has_time",
            ),
        ]
        indexes = [
            models.Index(fields=["ledger", "expires_at"], condition=Q(state="open"), name="quota_reservation_open"),
            models.Index(fields=["source"], condition=~Q(source=""), name="quota_reservation_source"),
            models.Index(IS_OPEN.desc(), F("created_at").desc(), name="quota_reservation_open_first"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Call(models.Model):
    """The journal: one row for each dispatched request, written before the request is sent.

    When several consumers pay for a batch, the row of the request belongs to the first of them, with the ISBNs of all.
    Each of the others has a row for its share of the price (`share_of`), with the same outcome.

    The sum of `calls` over a day's rows is the ledger's `used`; REQUESTS of them is its `requests`.
    """

    class Outcome(models.TextChoices):
        UNKNOWN = "unknown", "unknown (dispatched, no outcome yet)"
        OK = "ok", "answered"
        NOT_FOUND = "not_found", "unknown to ISBNdb"
        TOO_FAST = "too_fast", "refused: too fast"
        QUOTA_EXCEEDED = "quota_exceeded", "refused: daily quota exceeded"
        REFUSED = "refused", "refused: our key or our request"
        UNCLEAR = "unclear", "refused: ISBNdb did not say why"
        SERVER_ERROR = "server_error", "ISBNdb failed"
        TIMEOUT = "timeout", "no answer in time"
        CONNECTION_FAILED = "connection_failed", "no connection"
        UNDECODABLE = "undecodable", "answer not understood"
        NOT_SENT = "not_sent", "spent, but not sent"
        EXTERNAL = "external", "made outside Alexandria"
        ADJUSTED = "adjusted", "corrected by a person"

    id = models.BigAutoField(primary_key=True)
    ledger = _unchecked(DailyLedger, "journal", db_column="day")
    consumer = _unchecked(Consumer, "journal")
    reservation = _unchecked(Reservation, "journal", db_index=True, null=True, blank=True)
    share_of = _unchecked(
        "self",
        "shares",
        null=True,
        blank=True,
        help_text="The row of the request, if this row is a share of its price. Empty: the request itself.",
    )
    operation = models.CharField(max_length=64)
    calls = models.IntegerField(
        default=1, help_text="The price of the request or a share of it, or the calls made outside or corrected."
    )
    dispatched_at = models.DateTimeField()
    send_at = models.DateTimeField(help_text="The earliest moment at which the pace lets it be sent.")
    method = models.CharField(max_length=8, blank=True)
    path = models.TextField(blank=True)
    outcome = models.CharField(max_length=20, choices=Outcome.choices, default=Outcome.UNKNOWN)
    status = models.SmallIntegerField(null=True, blank=True, help_text="HTTP status of the answer.")
    latency_ms = models.IntegerField(null=True, blank=True)
    isbns_asked = models.IntegerField(null=True, blank=True)
    isbns_found = models.IntegerField(null=True, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        verbose_name = "request"
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(calls__gte=0, reservation__isnull=False)
                | Q(outcome="external", calls__gte=1)
                | Q(outcome="adjusted") & ~Q(calls=0),
                name="quota_call_price_or_correction",
            ),
        ]
        indexes = [
            models.Index(fields=["ledger", "consumer"], name="quota_call_day_consumer"),
            models.Index(fields=["consumer", "-id"], name="quota_call_consumer_latest"),
            models.Index(fields=["share_of"], condition=Q(share_of__isnull=False), name="quota_call_shares"),
            # Nearly all calls are `ok`. The latest of them are found without an index.
            models.Index(fields=["outcome", "-id"], condition=~Q(outcome="ok"), name="quota_call_outcome_latest"),
        ]

    def __str__(self) -> str:
        return f"request {self.pk}"


REQUESTS = models.Count("reservation", filter=Q(share_of=None))
"""The number of requests among rows of the journal: no corrections, and no shares of a price."""
