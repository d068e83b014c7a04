"""The queue: ISBNs that wait until a batch of them is worth a request. Only services/queue.py writes to its tables."""

from django.db import models
from django.db.models import Q

from enrichment.models.books import ISBN13_FORMAT
from quota.models import Consumer

FLUSHER = "cron-queue-flush"
"""The consumer that pays for the batches that the cron sends."""

MAX_ATTEMPTS = 8
"""After so many attempts an ISBN has failed. It is tried again when a caller or an operator asks for that."""


class QueuedIsbn(models.Model):
    """An ISBN that waits for its batch. It has one row, however many callers want it. Times are the quota's clock."""

    class Priority(models.IntegerChoices):
        LOW = 0, "low"
        NORMAL = 1, "normal"
        HIGH = 2, "high"

    isbn13 = models.CharField("ISBN-13", max_length=13, primary_key=True, db_collation="C")
    priority = models.PositiveSmallIntegerField(choices=Priority.choices, help_text="The highest of all callers.")
    consumer = models.ForeignKey(
        Consumer, on_delete=models.PROTECT, related_name="+", help_text="The first caller that queued it."
    )
    source = models.CharField(max_length=100, blank=True, help_text="The purpose that the first caller gave.")
    asked_at = models.DateTimeField(help_text="When it was first queued.")
    due_at = models.DateTimeField(
        help_text="From then on it is sent even if no batch is full. The earliest time of all callers."
    )
    claim = models.UUIDField(null=True, blank=True, editable=False, help_text="The batch that it is in now.")
    held_until = models.DateTimeField(
        null=True, blank=True, help_text="It is not sent before: it is in a batch now, or its last attempt failed."
    )
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Number of attempts, including the current one.")
    last_error = models.TextField(blank=True)

    class Meta:
        ordering = ["isbn13"]
        verbose_name = "queued ISBN"
        constraints = [
            models.CheckConstraint(
                condition=Q(isbn13__regex=ISBN13_FORMAT), name="enrichment_queuedisbn_isbn13_format"
            ),
            models.CheckConstraint(condition=Q(priority__in=[0, 1, 2]), name="enrichment_queuedisbn_priority_known"),
            models.CheckConstraint(
                condition=Q(claim=None) | Q(held_until__isnull=False), name="enrichment_queuedisbn_claim_has_an_end"
            ),
        ]

    def __str__(self) -> str:
        return self.isbn13


class QueueState(models.Model):
    """The one row about the whole queue. A flusher locks it while it picks a batch."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    looked_at = models.DateTimeField(help_text="When a flusher last looked at the queue.")
    flushed_at = models.DateTimeField(null=True, help_text="When ISBNdb last answered a batch.")
    stopped_reason = models.CharField(max_length=40, blank=True, help_text="Why the last flush ended early.")
    failures = models.PositiveIntegerField(default=0, help_text="Number of failed batches in a row.")
    paused_until = models.DateTimeField(null=True, help_text="No batch is sent before, because batches failed.")

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="enrichment_queuestate_one_row")]

    def __str__(self) -> str:
        return "Queue"
