"""What can be changed while everything runs."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from simple_history.models import HistoricalRecords


class Switches(models.Model):
    """The one row of settings that are changed at run time; what is empty has the environment's value.

    The SQL functions of the quota read it in every statement, so a change holds at once, everywhere. Limits hold from
    the next day that is opened, unless they are applied to today's ledger (`services.corrections.apply_limits`).
    """

    class Enforcement(models.TextChoices):
        DEFAULT = "", "as QUOTA_ENFORCEMENT says"
        ENFORCE = "enforce", "enforce the limits"
        OBSERVE = "observe", "observe: count everything, refuse nothing"

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    enforcement = models.CharField(max_length=8, choices=Enforcement.choices, default=Enforcement.DEFAULT, blank=True)
    harvest_enabled = models.BooleanField(
        "harvest", default=True, help_text="Off: crons and bulk work are refused every call; API clients go on."
    )
    daily_limit = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Empty: QUOTA_DAILY_LIMIT."
    )
    safety_buffer = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: QUOTA_SAFETY_BUFFER.")
    max_rps = models.PositiveIntegerField(
        "calls a second", null=True, blank=True, validators=[MinValueValidator(1)], help_text="Empty: QUOTA_MAX_RPS."
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

    def clean(self) -> None:
        """Raises ValidationError when, with the environment's values for what is empty, no call could be made."""
        from quota.selectors.status import chosen_limits  # noqa: PLC0415 (it reads this table)

        limits = chosen_limits(self)
        if limits.safety_buffer >= limits.daily_limit:
            raise ValidationError(
                f"The safety buffer ({limits.safety_buffer:,}) must be less than the daily limit "
                f"({limits.daily_limit:,}), or no call could be made."
            )

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        raise ValidationError("The switches cannot be deleted: empty a field to go back to the environment's value.")
