"""Corrections of a day: by a person, or because ISBNdb's own counter says something else."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from quota.models.ledger import Call, Consumer, DailyLedger
from quota.prices import BATCH_PRICES


class Adjustment(models.Model):
    """A person raised or lowered a day's figure, with the reason. The calls are also a row in the journal."""

    ledger = models.ForeignKey(DailyLedger, on_delete=models.PROTECT, db_column="day", related_name="adjustments")
    consumer = models.ForeignKey(Consumer, on_delete=models.PROTECT, related_name="adjustments")
    calls = models.IntegerField(help_text="Above 0: calls to add. Below 0: calls to take back.")
    reason = models.TextField()
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    made_with = models.CharField(
        "made with", max_length=200, help_text="The admin, or the command and the user who ran it."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    reconciliation = models.ForeignKey(
        "Reconciliation",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="adjustments",
        help_text="The answer of ISBNdb whose figure a person took.",
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=~Q(calls=0), name="quota_adjustment_changes_something"),
            models.CheckConstraint(condition=~Q(reason=""), name="quota_adjustment_has_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.calls:+} on {self.ledger_id}"


class Reopening(models.Model):
    """A closed day was opened again: by a person, or because ISBNdb's own counter said that calls are left."""

    ledger = models.ForeignKey(DailyLedger, on_delete=models.PROTECT, db_column="day", related_name="reopenings")
    closed_at = models.DateTimeField(help_text="When the day was closed.")
    closed_reason = models.TextField(help_text="Why it was closed.")
    reopened_at = models.DateTimeField()
    reason = models.TextField(help_text="Why it was opened again.")
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    made_with = models.CharField(
        "made with", max_length=200, help_text="The admin, the command and the user who ran it, or a reconciliation."
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="quota_reopening_has_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.ledger_id} at {self.reopened_at:%H:%M:%S}"


class Reconciliation(models.Model):
    """One comparison of ISBNdb's own counter (`GET /key`) with our ledger, and its result."""

    class DayChange(models.TextChoices):
        CLOSED = "closed", "closed"
        REOPENED = "reopened", "opened again"

    ledger = models.ForeignKey(DailyLedger, on_delete=models.PROTECT, db_column="day", related_name="reconciliations")
    call = models.OneToOneField(  # the journal is pruned, this table is not
        Call, on_delete=models.SET_NULL, null=True, blank=True, db_constraint=False, related_name="reconciliation"
    )
    answered_at = models.DateTimeField()
    spent = models.IntegerField("ISBNdb's count", help_text="Calls that ISBNdb counts today.")
    total = models.IntegerField("ISBNdb's limit", help_text="Calls a day that ISBNdb sells us, by its own answer.")
    left = models.IntegerField("left at ISBNdb", help_text="Calls that, by ISBNdb's own answer, are left today.")
    used = models.IntegerField("our count", help_text="Calls on our ledger when the answer arrived.")
    in_flight = models.IntegerField(help_text="Calls of ours that may not have reached ISBNdb when it answered.")
    raised_by = models.IntegerField(default=0, help_text="Calls added to our ledger because of this answer.")
    ignored = models.TextField(blank=True, help_text="Why the answer was not used. Empty when it was used.")
    day_change = models.CharField(
        "day",
        max_length=8,
        choices=DayChange.choices,
        blank=True,
        help_text="What the answer did to the day, if anything.",
    )
    active = models.JSONField(
        default=dict, help_text="When there was drift: calls by consumer since the last reconciliation."
    )
    price_seen = models.CharField(
        "price of a batch",
        max_length=8,
        choices=BATCH_PRICES,
        blank=True,
        help_text="The price that explains the difference. The higher one is in force at once; a "
        "person confirms the lower one.",
    )
    limit_from = models.PositiveIntegerField(
        null=True, blank=True, help_text="The day's limit before this answer, if ISBNdb's own limit has changed it."
    )
    limit_to = models.PositiveIntegerField(
        null=True, blank=True, help_text="The day's limit after this answer, if ISBNdb's own limit has changed it."
    )

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["ledger", "-id"], name="quota_reconciliation_by_day")]

    def __str__(self) -> str:
        return f"ISBNdb {self.spent}, ours {self.used} at {self.answered_at:%Y-%m-%d %H:%M}"

    @property
    def drift(self) -> int:
        """ISBNdb's count minus ours; below 0 when we count more."""
        return self.spent - self.used

    @property
    def missing(self) -> int:
        """How much our daily limit is above what ISBNdb, by its own answer, sells us; 0 when it is not."""
        return max(0, (self.limit_from or self.ledger.daily_limit) - self.total)

    @property
    def unused_plan(self) -> int:
        """How much ISBNdb, by its own answer, sells us beyond our daily limit; 0 when it does not."""
        return max(0, self.total - self.ledger.daily_limit) if not self.ignored else 0

    @property
    def excess(self) -> int:
        """How much our count is above ISBNdb's, if that is certain: the answer was used, and nothing was under way."""
        return max(0, -self.drift) if not self.ignored and not self.in_flight else 0
