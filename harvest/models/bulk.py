"""How far each bulk harvest of authors is: what `manage.py bulk_author_harvest` resumes from."""

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q

BULK_SOURCE = "bulk:"
"""What the sources of bulk harvests' calls begin with."""


class BulkHarvest(models.Model):
    """A list of authors and who works on it. One process at a time holds it, for as long as its lease lasts.

    The calls that it spends have its `source` as that of their reservations.
    """

    class State(models.TextChoices):
        RUNNING = "running", "running"
        STOPPED = "stopped", "stopped, can be resumed"
        FINISHED = "finished", "finished"
        ABANDONED = "abandoned", "begun anew instead"

    LEASE = timedelta(minutes=15)
    """Longer than any page takes, and than the harvest sleeps at a time."""

    key = models.CharField(max_length=64, editable=False, help_text="The same for the same list of authors.")
    label = models.CharField(max_length=200, help_text="Where the list comes from.")
    max_pages = models.PositiveSmallIntegerField(help_text="The most pages of 1,000 books an author.")
    state = models.CharField(max_length=9, choices=State.choices)
    reason = models.TextField(blank=True, help_text="Why it stopped.")
    started_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    holder = models.UUIDField(null=True, blank=True, editable=False, help_text="A name for the process at work.")
    host = models.CharField(max_length=255, blank=True, help_text="The machine that works or last worked on it.")
    pid = models.PositiveIntegerField("process", null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True, help_text="Until then nobody else may take it.")

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
        """When the process that holds it was last heard of; None when none does."""
        return self.lease_until and self.lease_until - self.LEASE

    @property
    def source(self) -> str:
        return f"{BULK_SOURCE}{self.pk}"


class BulkAuthor(models.Model):
    """An author of a bulk harvest, and what came of the pages that were fetched until now."""

    class State(models.TextChoices):
        PENDING = "pending", "pending"
        DONE = "done", "done"
        UNKNOWN = "unknown", "unknown to ISBNdb"
        CUT = "cut", "more books than were asked for or can be had"
        FAILED = "failed", "failed"

    id = models.BigAutoField(primary_key=True)
    harvest = models.ForeignKey(BulkHarvest, on_delete=models.CASCADE, related_name="authors", db_index=False)
    position = models.PositiveIntegerField(help_text="In the list, from 1.")
    name = models.TextField()
    state = models.CharField(max_length=7, choices=State.choices, default=State.PENDING)
    next_page = models.PositiveSmallIntegerField(default=1, help_text="The page of 1,000 books to go on with.")
    books = models.PositiveIntegerField(default=0, help_text="Books of the author that ISBNdb gave.")
    enriched = models.PositiveIntegerField(default=0, help_text="Of these, stored by this harvest.")
    calls = models.PositiveIntegerField(default=0)
    reason = models.TextField(blank=True, help_text="Why it failed or was cut.")
    updated_at = models.DateTimeField(null=True, blank=True, help_text="When the last page was dealt with.")

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
