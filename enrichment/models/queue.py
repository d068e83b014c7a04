"""The queue: ISBNs that wait until a batch of them is worth a request. Only services/queue*.py write to its tables."""

from django.db import models
from django.db.models import Q

from enrichment.models.books import ISBN13_FORMAT
from quota.models import Consumer

MAX_ATTEMPTS = 8
"""After so many attempts an ISBN has failed. It is tried again when a caller or an operator asks for that."""


class QueuedIsbn(models.Model):
    """An ISBN that waits for its batch. It has one row, however many consumers want it. Times are the quota's clock."""

    class Priority(models.IntegerChoices):
        LOW = 0, "low"
        NORMAL = 1, "normal"
        HIGH = 2, "high"

    isbn13 = models.CharField("ISBN-13", max_length=13, primary_key=True, db_collation="C")
    asked_at = models.DateTimeField(help_text="When it was first queued.")
    claim = models.UUIDField(null=True, blank=True, editable=False, help_text="The batch that it is in now.")
    held_until = models.DateTimeField(
        null=True, blank=True, help_text="It is not sent before: it is in a batch now, or its last attempt failed."
    )
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Number of attempts, including the current one.")
    last_error = models.TextField(blank=True)

    class Meta:
        ordering = ["isbn13"]
        verbose_name = "queued ISBN"
        indexes = [
            models.Index(fields=["isbn13"], name="enrichment_queued_failed", condition=Q(attempts__gte=MAX_ATTEMPTS))
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(isbn13__regex=ISBN13_FORMAT), name="enrichment_queuedisbn_isbn13_format"
            ),
            models.CheckConstraint(
                condition=Q(claim=None) | Q(held_until__isnull=False), name="enrichment_queuedisbn_claim_has_an_end"
            ),
        ]

    def __str__(self) -> str:
        return self.isbn13


class Asker(models.Model):
    """A consumer that asked for a queued ISBN. Its ISBN is sent when it can pay for it, or another asker can.

    It is written and deleted under the lock of its QueuedIsbn, so the two are never apart.
    """

    queued = models.ForeignKey(
        QueuedIsbn, on_delete=models.DO_NOTHING, db_column="isbn13", db_index=False, related_name="askers"
    )
    consumer = models.ForeignKey(Consumer, on_delete=models.PROTECT, db_index=False, related_name="+")
    priority = models.PositiveSmallIntegerField(choices=QueuedIsbn.Priority.choices)
    source = models.CharField(max_length=100, blank=True, help_text="The purpose that it gave first.")
    asked_at = models.DateTimeField(help_text="When it first asked.")
    due_at = models.DateTimeField(help_text="From then on the ISBN is sent even if no batch is full.")

    class Meta:
        ordering = ["asked_at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["queued", "consumer"], name="enrichment_asker_once"),
            models.CheckConstraint(condition=Q(priority__in=[0, 1, 2]), name="enrichment_asker_priority_known"),
        ]
        indexes = [
            models.Index(fields=["consumer", "due_at"], name="enrichment_asker_due"),
            models.Index(fields=["consumer", "priority", "due_at", "queued"], name="enrichment_asker_in_turn"),
        ]

    def __str__(self) -> str:
        return f"{self.queued_id} for {self.consumer_id}"


class QueuePayer(models.Model):
    """When a consumer was last chosen to pay for a batch by the request: among equals, the one longest ago is next."""

    consumer = models.OneToOneField(Consumer, on_delete=models.CASCADE, primary_key=True, related_name="+")
    chosen_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.consumer_id)


class QueueState(models.Model):
    """The one row about the whole queue. A flusher locks it while it picks a batch."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    looked_at = models.DateTimeField(help_text="When a flusher last looked at the queue.")
    flushed_at = models.DateTimeField(null=True, help_text="When ISBNdb last answered a batch.")
    stopped_reason = models.CharField(max_length=40, blank=True, help_text="Why the last flush ended early.")
    failures = models.PositiveIntegerField(default=0, help_text="Number of failed flushes in a row.")
    paused_until = models.DateTimeField(null=True, help_text="No batch is sent before, because batches failed.")

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="enrichment_queuestate_one_row")]

    def __str__(self) -> str:
        return "Queue"
