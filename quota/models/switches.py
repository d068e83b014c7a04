"""The settings that staff change at run time."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from simple_history.models import HistoricalRecords

from quota.prices import BATCH_PRICES


@dataclass(frozen=True)
class DayLimits:
    """What a ledger is opened with: calls a day, how many of them are never used, and calls a second."""

    daily_limit: int
    safety_buffer: int
    max_rps: int


class Switches(models.Model):
    """The settings that staff change at run time, in one row. An empty field takes the environment's value.

    The SQL functions of the quota read the row in every statement, so a change takes effect at once in every process.
    The limits take effect with the next ledger, unless they are applied to today's
    (`services.corrections.apply_limits`).
    """

    class Enforcement(models.TextChoices):
        DEFAULT = "", "as QUOTA_ENFORCEMENT says"
        ENFORCE = "enforce", "enforce the limits"
        OBSERVE = "observe", "observe: count everything, refuse nothing"

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    enforcement = models.CharField(max_length=8, choices=Enforcement.choices, default=Enforcement.DEFAULT, blank=True)
    harvest_enabled = models.BooleanField(
        "harvest", default=True, help_text="Crons and bulk work get calls only while this is on. API clients always do."
    )
    batch_price = models.CharField(
        "price of a batch",
        max_length=8,
        choices=[("", "as ISBNDB_BATCH_PRICE says"), ("measure", "measure it"), *BATCH_PRICES],
        default="",
        blank=True,
        help_text="What ISBNdb charges for a batch of ISBNs. Measure it, unless you are sure.",
    )
    daily_limit = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Empty: QUOTA_DAILY_LIMIT."
    )
    safety_buffer = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: QUOTA_SAFETY_BUFFER.")
    max_rps = models.PositiveIntegerField(
        "requests a second", null=True, blank=True, validators=[MinValueValidator(1)], help_text="Empty: QUOTA_MAX_RPS."
    )
    history = HistoricalRecords()

    class Meta:
        verbose_name_plural = "switches"
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="quota_switches_one_row"),
            models.CheckConstraint(
                condition=Q(enforcement__in=["", "enforce", "observe"]), name="quota_switches_enforcement_known"
            ),
            models.CheckConstraint(
                condition=Q(batch_price__in=["", "measure", "request", "isbn"]), name="quota_switches_batch_price_known"
            ),
            models.CheckConstraint(
                condition=Q(daily_limit=None) | Q(daily_limit__gte=1), name="quota_switches_daily_limit_positive"
            ),
            models.CheckConstraint(
                condition=Q(max_rps=None) | Q(max_rps__gte=1), name="quota_switches_max_rps_positive"
            ),
            models.CheckConstraint(
                condition=Q(daily_limit=None) | Q(safety_buffer=None) | Q(safety_buffer__lt=F("daily_limit")),
                name="quota_switches_buffer_below_limit",
            ),
        ]

    def __str__(self) -> str:
        return "Switches"

    def day_limits(self) -> DayLimits:
        """The limits that these switches give, with the environment's values for empty fields. They are not checked."""

        def chosen(switch: int | None, default: int) -> int:
            return default if switch is None else switch

        return DayLimits(
            daily_limit=chosen(self.daily_limit, settings.QUOTA_DAILY_LIMIT),
            safety_buffer=chosen(self.safety_buffer, settings.QUOTA_SAFETY_BUFFER),
            max_rps=chosen(self.max_rps, settings.QUOTA_MAX_RPS),
        )

    def clean(self) -> None:
        """Raises ValidationError when no call could be made with these switches."""
        limits = self.day_limits()
        if limits.safety_buffer >= limits.daily_limit:
            raise ValidationError(
                f"The safety buffer ({limits.safety_buffer:,}) must be less than the daily limit "
                f"({limits.daily_limit:,}), or no call could be made."
            )

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        raise ValidationError("The switches cannot be deleted. To use the environment's value, empty the field.")
