"""What is known of ISBNdb's prices, and how it became known."""

from django.db import models
from django.db.models import Q

from quota.models.ledger import DailyLedger
from quota.prices import BATCH_PRICES


class PriceMeasurement(models.Model):
    """One measurement of what ISBNdb charges, with its evidence. Rows are only added: the newest price counts.

    `figures` are ISBNdb's own counts in the order in which they were asked, each as {"at": time stamp, "spent": calls,
    "call": id of the journal row}.
    """

    class How(models.TextChoices):
        PROBE = "probe", "measured with a batch of two ISBNs"
        RECONCILIATION = "reconciliation", "seen by a reconciliation"
        PERSON = "person", "confirmed by a person"

    ledger = models.ForeignKey(DailyLedger, on_delete=models.PROTECT, db_column="day", related_name="measurements")
    measured_at = models.DateTimeField()
    how = models.CharField(max_length=16, choices=How.choices)
    batch_price = models.CharField(
        "price of a batch",
        max_length=8,
        choices=BATCH_PRICES,
        blank=True,
        help_text="Empty: the measurement settled nothing.",
    )
    key_price = models.SmallIntegerField(
        "price of GET /key", null=True, blank=True, help_text="Calls. Empty: the measurement settled nothing."
    )
    figures = models.JSONField(default=list, blank=True, help_text="ISBNdb's own counts, in the order of asking.")
    note = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(batch_price__in=["", "request", "isbn"]), name="quota_pricemeasurement_batch_price_known"
            ),
            models.CheckConstraint(
                condition=Q(key_price=None) | Q(key_price__in=[0, 1]), name="quota_pricemeasurement_key_price_known"
            ),
        ]
        indexes = [
            models.Index(fields=["-id"], condition=~Q(batch_price=""), name="quota_pricemeasurement_batch"),
            models.Index(fields=["-id"], condition=Q(key_price__isnull=False), name="quota_pricemeasurement_key"),
        ]

    def __str__(self) -> str:
        return f"prices at {self.measured_at:%Y-%m-%d %H:%M}"

    @property
    def counts(self) -> str:
        """ISBNdb's own counts, for people; "" when it told none."""
        return ", ".join(f"{figure['spent']:,}" for figure in self.figures if figure["spent"] is not None)
