"""Refusals on record, each with the figures of that moment."""

import uuid

from django.db import models

from quota.limits import CHOICES, LIMITS, Limit
from quota.models.ledger import Consumer, DailyLedger


class Refusal(models.Model):
    """A limit refused the calls of an operation. The 429 and the log hold the id of this row.

    Refusals of one consumer, operation and limit within the same ten seconds are one row with a counter, so that a
    client that retries in a loop does not fill the table. The figures are those of the first refusal.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    ledger = models.ForeignKey(
        DailyLedger, on_delete=models.PROTECT, db_column="day", related_name="refusals", db_index=False
    )
    consumer = models.ForeignKey(Consumer, on_delete=models.PROTECT, related_name="refusals", db_index=False)
    operation = models.CharField(max_length=64)
    source = models.CharField(max_length=100, blank=True, help_text="What the caller says it is for.")
    limit = models.CharField(max_length=20, choices=CHOICES)
    asked = models.IntegerField(help_text="Calls requested.")
    free = models.IntegerField(help_text="Calls that could have been granted.")
    retry_at = models.DateTimeField(null=True, blank=True, help_text="When a retry can succeed. Empty: never.")
    at = models.DateTimeField(help_text="When it was refused for the first time.")
    last_at = models.DateTimeField(help_text="When it was refused for the last time.")
    times = models.IntegerField(default=1, help_text="How often it was refused within these ten seconds.")
    within = models.DateTimeField(editable=False, help_text="When the ten seconds begin.")
    figures = models.JSONField(
        help_text="Limits and totals of the day and the consumer, and the calls that each had reserved."
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

    @property
    def reason(self) -> Limit:
        """The limit, with its explanation and remedy."""
        return LIMITS[self.limit]
