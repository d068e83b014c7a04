"""The progress of each bulk harvest of authors, from which `manage.py bulk_author_harvest` resumes."""

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q

BULK_SOURCE = "bulk:"
"""The start of the source of every reservation of a bulk harvest."""


class BulkHarvest(models.Model):
    """A list of authors and the process that works on it. One process at a time holds it, by a lease.

    The reservations of the harvest have its `source`.
    """

    class State(models.TextChoices):
        RUNNING = "running", "running"
        STOPPED = "stopped", "stopped, can be resumed"
        FINISHED = "finished", "finished"
        ABANDONED = "abandoned", "replaced by a restart"

    LEASE = timedelta(minutes=15)
    """Longer than any page takes, and longer than any single sleep of the harvest."""

    key = models.CharField(max_length=64, editable=False, help_text="Identifies the list of authors.")
    label = models.CharField(max_length=200, help_text="Source of the list.")
    max_pages = models.PositiveSmallIntegerField(help_text="Maximum number of pages of 1,000 books per author.")
    state = models.CharField(max_length=9, choices=State.choices)
    reason = models.TextField(blank=True, help_text="Why it stopped.")
    started_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    holder = models.UUIDField(null=True, blank=True, editable=False, help_text="Identifies the working process.")
    host = models.CharField(max_length=255, blank=True, help_text="The machine that works on it, or did last.")
    pid = models.PositiveIntegerField("process", null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True, help_text="No other process may take it before.")

    class Meta:
        ordering = ["-id"]
        verbose_name = "bulk author harvest"
        constraints = [
            models.CheckConstraint(
                condition=Q(state="running", ended_at=None, holder__isnull=False, lease_until__isnull=False)
                | Q(state__in=["stopped", "finished", "abandoned"], ended_at__isnull=False, holder=None),
                name="harvest_bulkharvest_running_is_held",
            ),
            models.CheckConstraint(
                condition=Q(max_pages__gte=1, max_pages__lte=10), name="harvest_bulkharvest_max_pages_1_to_10"
            ),
            models.UniqueConstraint(
                fields=["key"], condition=Q(state__in=["running", "stopped"]), name="harvest_bulkharvest_list_once"
            ),
        ]

    def __str__(self) -> str:
        return f"harvest {self.pk}"

    @property
    def heard_at(self) -> datetime | None:
        """When the process that holds it last renewed the lease; None when no process holds it."""
        return self.lease_until and self.lease_until - self.LEASE

    @property
    def source(self) -> str:
        return f"{BULK_SOURCE}{self.pk}"


class BulkAuthor(models.Model):
    """An author of a bulk harvest, with the results of the pages fetched so far."""

    class State(models.TextChoices):
        PENDING = "pending", "pending"
        DONE = "done", "done"
        UNKNOWN = "unknown", "unknown to ISBNdb"
        CUT = "cut", "more books than requested or available"
        FAILED = "failed", "failed"

    id = models.BigAutoField(primary_key=True)
    harvest = models.ForeignKey(BulkHarvest, on_delete=models.CASCADE, related_name="authors", db_index=False)
    position = models.PositiveIntegerField(help_text="Position in the list, from 1.")
    name = models.TextField()
    state = models.CharField(max_length=7, choices=State.choices, default=State.PENDING)
    next_page = models.PositiveSmallIntegerField(default=1, help_text="The next page of 1,000 books.")
    books = models.PositiveIntegerField(default=0, help_text="Books of the author that ISBNdb returned.")
    enriched = models.PositiveIntegerField(default=0, help_text="Books of these that this harvest stored.")
    calls = models.PositiveIntegerField(default=0)
    reason = models.TextField(blank=True, help_text="Why it failed or was cut.")
    updated_at = models.DateTimeField(null=True, blank=True, help_text="When the last page ended.")

    class Meta:
        ordering = ["harvest", "position"]
        constraints = [
            models.UniqueConstraint(fields=["harvest", "position"], name="harvest_bulkauthor_position_once"),
            models.CheckConstraint(
                condition=Q(state__in=["pending", "done", "unknown", "cut", "failed"]),
                name="harvest_bulkauthor_state_known",
            ),
            models.CheckConstraint(condition=Q(next_page__gte=1), name="harvest_bulkauthor_next_page_from_1"),
        ]

    def __str__(self) -> str:
        return self.name
