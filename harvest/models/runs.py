"""What ran on a schedule: every run with what came of it, and where each cron stands."""

from django.db import models
from django.db.models import Q


class HarvestRun(models.Model):
    """One run of a cron; runs that did nothing, one like the other, share a row (`repeats`).

    The calls that a run spends have `run:<id>` as the source of their reservations.
    """

    class Outcome(models.TextChoices):
        RUNNING = "running", "running"
        SUCCEEDED = "succeeded", "succeeded"
        IDLE = "idle", "nothing to do"
        SKIPPED = "skipped", "not begun"
        STOPPED = "stopped", "ended early by the quota"
        FAILED = "failed", "failed"

    cron = models.CharField(max_length=64)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=9, choices=Outcome.choices, default=Outcome.RUNNING)
    reason = models.TextField(blank=True, help_text="Why it was not begun, was ended early or failed.")
    calls = models.PositiveIntegerField(default=0, help_text="Calls spent, retries included.")
    books = models.PositiveIntegerField(default=0, help_text="Editions stored: new, changed or the same as before.")
    cursor = models.JSONField(default=dict, blank=True, help_text="Where the next run goes on.")
    repeats = models.PositiveIntegerField(
        default=0, help_text="Further runs right after it that did nothing for the same reason."
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(outcome__in=["running", "succeeded", "idle", "skipped", "stopped", "failed"]),
                name="harvest_harvestrun_outcome_known",
            ),
            models.CheckConstraint(
                condition=Q(outcome="running", ended_at=None) | ~Q(outcome="running") & Q(ended_at__isnull=False),
                name="harvest_harvestrun_ended_has_time",
            ),
            models.CheckConstraint(
                condition=Q(repeats=0) | Q(outcome__in=["idle", "skipped"], calls=0, books=0),
                name="harvest_harvestrun_only_nothing_repeats",
            ),
        ]
        indexes = [models.Index(fields=["cron", "-id"], name="harvest_harvestrun_by_cron")]

    def __str__(self) -> str:
        return f"run {self.pk} of {self.cron}"


class CronState(models.Model):
    """Where a cron stands: its last tick, its cursor, and the run under way, which holds a lease."""

    name = models.CharField(max_length=64, primary_key=True)
    last_tick_at = models.DateTimeField(
        null=True, blank=True, help_text="The moment of its schedule that was run last; no other may run it again."
    )
    cursor = models.JSONField(default=dict, blank=True, help_text="Where the next run goes on.")
    run = models.OneToOneField(
        HarvestRun, on_delete=models.SET_NULL, null=True, blank=True, related_name="state", help_text="Under way now."
    )
    lease_until = models.DateTimeField(
        null=True, blank=True, help_text="The run renews it; once it is over, its worker is taken for dead."
    )

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(run=None, lease_until=None) | Q(run__isnull=False, lease_until__isnull=False),
                name="harvest_cronstate_run_has_lease",
            ),
        ]

    def __str__(self) -> str:
        return self.name
