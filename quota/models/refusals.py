"""What was refused, and how things stood then: the answer to "why was this refused?"."""

import uuid

from django.db import models

from quota.models.ledger import Consumer, DailyLedger


class Refusal(models.Model):
    """A limit stood against an operation. Its id is in the 429 and in the log.

    Refusals of one consumer, operation and limit within the same ten seconds are one row, which counts them: a client
    that hammers a limit does not fill the table. Its figures are those of the first.
    """

    class Limit(models.TextChoices):
        SAFETY_LIMIT = "safety_limit", "safety limit of the day"
        FLOOR = "floor", "floor: calls to be left for others"
        DAILY_BUDGET = "daily_budget", "daily budget"
        CAP_PER_OPERATION = "cap_per_operation", "cap per operation"
        DAY_CLOSED = "day_closed", "day closed by ISBNdb"
        MIDNIGHT = "midnight", "too close to midnight UTC"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    ledger = models.ForeignKey(
        DailyLedger, on_delete=models.PROTECT, db_column="day", related_name="refusals", db_index=False
    )
    consumer = models.ForeignKey(Consumer, on_delete=models.PROTECT, related_name="refusals", db_index=False)
    operation = models.CharField(max_length=64)
    source = models.CharField(max_length=100, blank=True, help_text="What the caller says it is for.")
    limit = models.CharField(max_length=20, choices=Limit.choices)
    asked = models.IntegerField(help_text="Calls that were asked for.")
    free = models.IntegerField(help_text="Calls that could have been had.")
    retry_at = models.DateTimeField(
        null=True, blank=True, help_text="When to come back; empty: coming back does not help."
    )
    at = models.DateTimeField(help_text="When it was refused, the first time.")
    last_at = models.DateTimeField(help_text="When it was refused, the last time.")
    times = models.IntegerField(default=1, help_text="How often within these ten seconds.")
    within = models.DateTimeField(editable=False, help_text="Where the ten seconds begin.")
    figures = models.JSONField(
        help_text="The limits and totals of the day, of the consumer, and who held how many calls."
    )

    class Meta:
        ordering = ["-at"]
        constraints = [
            models.UniqueConstraint(
                fields=["consumer", "operation", "limit", "within"], name="quota_refusal_one_in_ten_seconds"
            ),
            models.CheckConstraint(condition=models.Q(times__gte=1), name="quota_refusal_times_positive"),
        ]
        indexes = [
            models.Index(fields=["consumer", "-at"], name="quota_refusal_by_consumer"),
            models.Index(fields=["-at"], name="quota_refusal_by_time"),
        ]

    def __str__(self) -> str:
        return str(self.id)
