"""The queue: ISBNs that somebody wants, until a full batch of them is worth a call. Written by services/queue.py."""

from django.db import models
from django.db.models import Q

from enrichment.models.books import ISBN13_FORMAT
from quota.models import Consumer

FLUSHER = "cron-queue-flush"
"""The consumer that pays for what the cron sends."""

MOST_ATTEMPTS = 8
"""How often a wish is tried; then it has failed, until somebody wishes for it anew or an operator tries it again."""


class Wish(models.Model):
    """An ISBN that waits to be asked for, once, however many callers want it. Times are those of the quota's clock."""

    class Priority(models.IntegerChoices):
        LOW = 0, "low"
        NORMAL = 1, "normal"
        HIGH = 2, "high"

    isbn13 = models.CharField("ISBN-13", max_length=13, primary_key=True, db_collation="C")
    priority = models.PositiveSmallIntegerField(choices=Priority.choices, help_text="The highest of all callers.")
    consumer = models.ForeignKey(Consumer, on_delete=models.PROTECT, related_name="+", help_text="Who wished first.")
    source = models.CharField(max_length=100, blank=True, help_text="What the first caller said it is for.")
    asked_at = models.DateTimeField(help_text="When it was first wished for.")
    due_at = models.DateTimeField(help_text="When it is worth a call even if no batch is full; the earliest wins.")
    claim = models.UUIDField(null=True, blank=True, editable=False, help_text="The flusher's claim that it is in.")
    held_until = models.DateTimeField(
        null=True, blank=True, help_text="No flusher takes it before: another has it, or ISBNdb failed just now."
    )
    attempts = models.PositiveSmallIntegerField(default=0, help_text="How often it was sent, or about to be.")
    last_error = models.TextField(blank=True)

    class Meta:
        ordering = ["isbn13"]
        verbose_name_plural = "wishes"
        constraints = [
            models.CheckConstraint(condition=Q(isbn13__regex=ISBN13_FORMAT), name="enrichment_wish_isbn13_format"),
            models.CheckConstraint(condition=Q(priority__in=[0, 1, 2]), name="enrichment_wish_priority_known"),
            models.CheckConstraint(
                condition=Q(claim=None) | Q(held_until__isnull=False), name="enrichment_wish_claim_has_an_end"
            ),
        ]

    def __str__(self) -> str:
        return self.isbn13


class QueueState(models.Model):
    """The one row about the queue as a whole. Whoever claims wishes holds its lock meanwhile."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    looked_at = models.DateTimeField(help_text="When a flusher last looked.")
    flushed_at = models.DateTimeField(null=True, help_text="When a batch was last sent and answered.")
    stopped_reason = models.CharField(max_length=40, blank=True, help_text="Why the last flush ended early.")
    failures = models.PositiveIntegerField(default=0, help_text="Batches in a row that failed.")
    paused_until = models.DateTimeField(null=True, help_text="Because they failed, nothing is sent before.")

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="enrichment_queuestate_one_row")]

    def __str__(self) -> str:
        return "Queue"
