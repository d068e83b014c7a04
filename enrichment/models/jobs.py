"""Jobs: long work that continues after the answer, and its items. Only enrichment/jobs writes to these tables."""

import uuid

from django.db import models
from django.db.models import F, Q

from alexandria.common.addresses import MAX_LENGTH, host_of
from enrichment.models.books import ISBN13_FORMAT
from quota.models import Consumer

MAX_KEY_LENGTH = 128
"""Maximum number of characters of an idempotency key."""

MAX_LABEL_LENGTH = 200

STAFF = "staff"
"""The consumer that pays for work started in the admin."""

OPERATOR = "operator"
"""The consumer that pays for commands, unless they name another one."""

BULK_AUTHOR = "bulk-author"
"""The consumer that pays for the lists of authors of staff and commands. Its floor keeps calls free for others."""


class Job(models.Model):
    """Long work of a consumer: who runs it now, its progress, and its result.

    Its times come from the quota's clock, quota_now() in SQL.
    """

    class Kind(models.TextChoices):
        BATCH_DIRECT = "batch-direct", "ISBNs"
        BIBLIOGRAPHY = "bibliography", "an author's books"
        NEW_RELEASES = "new-releases", "new releases"
        AUTHORS = "authors", "the books of authors"

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        WAITING = "waiting", "waiting"
        PAUSED = "paused", "paused"
        SUCCEEDED = "succeeded", "succeeded"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"

    class Stop(models.TextChoices):
        PAUSE = "pause", "pause"
        CANCEL = "cancel", "cancel"

    class OnExhausted(models.TextChoices):
        FAIL = "fail", "fail"
        WAIT = "wait", "wait for the next day's quota"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    consumer = models.ForeignKey(Consumer, on_delete=models.PROTECT, related_name="jobs", db_index=False)
    kind = models.CharField(max_length=16, help_text="One of `Kind`.")  # no choices: a new kind needs no migration
    wanted = models.JSONField(help_text="The request, without its ISBNs or authors: they are in the items.")
    label = models.CharField(
        max_length=MAX_LABEL_LENGTH, blank=True, help_text="Where the list comes from, such as a file's name."
    )
    list_key = models.CharField(
        max_length=64, blank=True, editable=False, help_text="Identifies a list that is not to be paid for twice."
    )
    on_exhausted = models.CharField(
        max_length=4,
        choices=OnExhausted.choices,
        default=OnExhausted.FAIL,
        help_text="What to do when the quota is used up.",
    )
    notify_url = models.CharField(
        "address for messages",
        max_length=MAX_LENGTH,
        blank=True,
        db_default="",
        help_text="Where it is reported that the job has succeeded, failed or begun to wait. Empty: the address of its "
        "consumer, if it has one.",
    )
    idempotency_key = models.CharField(max_length=MAX_KEY_LENGTH, null=True, blank=True)  # noqa: DJ001 (many have none)
    body_hash = models.CharField(max_length=64, help_text="SHA-256 of the request.")
    state = models.CharField(max_length=9, choices=State.choices, default=State.QUEUED)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    resume_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Waiting: when it continues. Queued: since when.",
    )
    attended = models.BooleanField(
        default=False,
        help_text="A command works on it, and no worker. When the command ends, it is paused.",
    )
    runner = models.UUIDField(null=True, blank=True, help_text="The current claim; each claim has a new id.")
    host = models.CharField(max_length=255, blank=True, help_text="The machine of the current or last runner.")
    pid = models.PositiveIntegerField("process", null=True, blank=True)
    claimed_at = models.DateTimeField(null=True, blank=True, help_text="When its last turn began.")
    lease_until = models.DateTimeField(null=True, blank=True, help_text="After this time, the runner counts as dead.")
    attempts = models.PositiveIntegerField(
        default=0,
        help_text="Claims since the last answer or release, including the current one.",
    )
    failures = models.PositiveIntegerField(
        default=0, help_text="How often ISBNdb or the database has failed since the last answer."
    )
    stop_requested = models.CharField(
        max_length=6, blank=True, choices=Stop.choices, help_text="What a running job does after what is under way."
    )
    done = models.PositiveIntegerField(default=0, help_text="Number of ISBNs, pages or authors that are done.")
    total = models.PositiveIntegerField(
        default=0, help_text="Number of all ISBNs or authors, or maximum number of pages."
    )
    progress = models.JSONField(default=dict, help_text="State that the next runner needs.")
    item_count = models.PositiveIntegerField(default=0, help_text="Number of its items, also after their deletion.")
    items_deleted_at = models.DateTimeField(
        null=True, blank=True, help_text="When its items were deleted, long after its end. Empty: they are not."
    )
    item_figures = models.JSONField(
        default=dict,
        blank=True,
        help_text="Figures of its items, since they are deleted.",
    )
    result = models.JSONField(null=True, blank=True)
    stopped_reason = models.CharField(
        max_length=32, blank=True, help_text="Why it is not complete, as a word for programs."
    )
    error = models.TextField(blank=True, help_text="The same, as a sentence for people.")

    is_announced: bool = True
    """Not in the table: False in the process that has just queued the job, when the broker did not take its message."""

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(on_exhausted__in=["fail", "wait"], stop_requested__in=["", "pause", "cancel"]),
                name="enrichment_job_words_known",
            ),
            models.CheckConstraint(
                condition=Q(state="running", runner__isnull=False, lease_until__isnull=False, started_at__isnull=False)
                | Q(state__in=["queued", "waiting"], runner=None, lease_until=None, resume_at__isnull=False)
                | Q(state__in=["paused", "succeeded", "failed", "cancelled"])
                & Q(runner=None, lease_until=None, resume_at=None),
                name="enrichment_job_state_has_its_fields",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["succeeded", "failed", "cancelled"], ended_at__isnull=False)
                | Q(state__in=["queued", "running", "waiting", "paused"], ended_at=None),
                name="enrichment_job_ended_has_time",
            ),
            models.CheckConstraint(condition=Q(done__lte=F("total")), name="enrichment_job_done_within_total"),
            models.UniqueConstraint(
                fields=["consumer", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="enrichment_job_idempotency_key_once",
            ),
            models.UniqueConstraint(
                fields=["consumer", "list_key"],
                condition=Q(ended_at=None) & ~Q(list_key=""),
                name="enrichment_job_list_once",
            ),
        ]
        indexes = [
            models.Index(fields=["consumer", "-created_at"], name="enrichment_job_of_consumer"),
            models.Index(fields=["consumer", "-claimed_at"], name="enrichment_job_turns"),
            models.Index(fields=["created_at"], condition=Q(ended_at=None), name="enrichment_job_under_way"),
            models.Index(fields=["ended_at"], condition=Q(ended_at__isnull=False), name="enrichment_job_ended"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def kind_label(self) -> str:
        """The kind, for people."""
        return Job.Kind(self.kind).label

    @property
    def source(self) -> str:
        """The `source` of all its reservations. Its calls are counted by it."""
        return f"job:{self.id}"

    @property
    def notified_host(self) -> str:
        """The part of `notify_url` that everybody may see."""
        return host_of(self.notify_url)

    @property
    def cancel_requested(self) -> bool:
        """Whether the job is to end, or has ended, as cancelled."""
        return self.stop_requested == Job.Stop.CANCEL


class JobItem(models.Model):
    """One ISBN of a job, or a value that is not an ISBN. A repeated ISBN is a duplicate of its first item."""

    class State(models.TextChoices):
        PENDING = "pending", "not done yet"
        ENRICHED = "enriched", "fetched and stored"
        ALREADY_FRESH = "already_fresh", "already stored and recent enough"
        NOT_FOUND = "not_found", "unknown to ISBNdb"
        FAILED = "failed", "failed"
        DUPLICATE = "duplicate", "a duplicate"
        INVALID = "invalid", "not an ISBN"

    pk = models.CompositePrimaryKey("job_id", "position")
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="items", db_index=False)
    position = models.PositiveIntegerField()
    value = models.TextField(help_text="The value as given. Empty: it is the ISBN-13.", blank=True)
    isbn13 = models.CharField("ISBN-13", max_length=13, blank=True, db_collation="C")
    state = models.CharField(max_length=13, choices=State.choices, default=State.PENDING)
    reason = models.TextField(blank=True, help_text="Why it failed or is invalid.")

    class Meta:
        ordering = ["job_id", "position"]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="invalid", isbn13="")
                | Q(
                    state__in=["pending", "enriched", "already_fresh", "not_found", "failed", "duplicate"],
                    isbn13__regex=ISBN13_FORMAT,
                ),
                name="enrichment_jobitem_isbn_unless_invalid",
            ),
            models.UniqueConstraint(
                fields=["job", "isbn13"],
                condition=~Q(isbn13="") & ~Q(state="duplicate"),
                name="enrichment_jobitem_isbn_once",
            ),
        ]
        indexes = [models.Index(fields=["job", "state", "position"], name="enrichment_jobitem_by_state")]

    def __str__(self) -> str:
        return f"{self.isbn}: {self.state}"

    @property
    def isbn(self) -> str:
        """The ISBN-13, or the given value of an invalid item."""
        return self.isbn13 or self.value


class JobAuthor(models.Model):
    """One author of a job, with the results of the pages so far."""

    class State(models.TextChoices):
        PENDING = "pending", "not done yet"
        DONE = "done", "all books fetched"
        UNKNOWN = "unknown", "unknown to ISBNdb"
        CUT = "cut", "more books than requested or available"
        FAILED = "failed", "failed"

    pk = models.CompositePrimaryKey("job_id", "position")
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="authors", db_index=False)
    position = models.PositiveIntegerField(help_text="Position in the list, from 1.")
    name = models.TextField()
    state = models.CharField(max_length=7, choices=State.choices, default=State.PENDING)
    progress = models.JSONField(default=dict, help_text="Which pages are still missing.")
    pages = models.PositiveIntegerField(default=0, help_text="Number of pages that ISBNdb returned.")
    found = models.PositiveIntegerField(default=0, help_text="Books that ISBNdb returned: the sum of the next five.")
    new = models.PositiveIntegerField(default=0)
    changed = models.PositiveIntegerField(default=0)
    unchanged = models.PositiveIntegerField(default=0)
    already_fresh = models.PositiveIntegerField(default=0, help_text="Stored and recent enough, so left as they were.")
    failed = models.PositiveIntegerField(default=0)
    calls = models.PositiveIntegerField(default=0)
    reason = models.TextField(blank=True, help_text="Why it failed, or was cut.")

    class Meta:
        ordering = ["job_id", "position"]
        default_permissions = ()
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["pending", "done", "unknown", "cut", "failed"]),
                name="enrichment_jobauthor_state_known",
            ),
        ]
        indexes = [models.Index(fields=["job", "state", "position"], name="enrichment_jobauthor_by_state")]

    def __str__(self) -> str:
        return self.name
