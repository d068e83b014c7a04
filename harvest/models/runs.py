"""The runs of the crons with their results, and the current state of each cron."""

from django.db import models
from django.db.models import Q


class HarvestRun(models.Model):
    """One run of a cron. Consecutive runs that did nothing for the same reason share a row (`repeats`).

    The reservations of a run have the source `run:<id>`.
    """

    class Outcome(models.TextChoices):
        RUNNING = "running", "running"
        SUCCEEDED = "succeeded", "succeeded"
        IDLE = "idle", "nothing to do"
        SKIPPED = "skipped", "skipped"
        STOPPED = "stopped", "ended early by the quota"
        FAILED = "failed", "failed"

    cron = models.CharField(max_length=64)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=9, choices=Outcome.choices, default=Outcome.RUNNING)
    reason = models.TextField(blank=True, help_text="Why it was skipped, ended early or failed.")
    calls = models.PositiveIntegerField(default=0, help_text="Calls spent, including retries.")
    books = models.PositiveIntegerField(default=0, help_text="Editions stored: new, changed or unchanged.")
    cursor = models.JSONField(default=dict, blank=True, help_text="Where the next run continues.")
    repeats = models.PositiveIntegerField(
        default=0, help_text="Further consecutive runs that did nothing for the same reason."
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
    """The state of a cron: its last tick, its cursor, and the run in progress, which holds a lease."""

    name = models.CharField(max_length=64, primary_key=True)
    last_tick_at = models.DateTimeField(
        null=True, blank=True, help_text="The last moment of its schedule that has run. It does not run again."
    )
    by_hand_at = models.DateTimeField(null=True, blank=True, help_text="When a person last started it on a page.")
    cursor = models.JSONField(default=dict, blank=True, help_text="Where the next run continues.")
    run = models.OneToOneField(
        HarvestRun, on_delete=models.SET_NULL, null=True, blank=True, related_name="state", help_text="In progress now."
    )
    lease_until = models.DateTimeField(
        null=True, blank=True, help_text="The run renews it. When it is over, the worker counts as dead."
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
