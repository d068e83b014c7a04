"""Lists that staff enter. `enrichment.jobs.lists` reads and runs them."""

import uuid

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from enrichment.models.jobs import MAX_LABEL_LENGTH


class StaffList(models.Model):
    """What a member of staff entered, stored from the page that shows its cost until the job starts."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(db_default=Now())
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")

    class Meta:
        abstract = True
        ordering = ["-created_at"]
        default_permissions = ()
        indexes = [models.Index(fields=["created_at"], name="%(app_label)s_%(class)s_created")]

    def __str__(self) -> str:
        return f"list {self.id}"


class IsbnList(StaffList):
    values = ArrayField(models.TextField(), help_text="As given.")
    is_spreadsheet = models.BooleanField(
        default=False, help_text="The values are cells of a spreadsheet, in which ISBNs have lost zeros in front."
    )
    notes = ArrayField(models.TextField(), default=list, blank=True, help_text="What to know about the file.")
    refresh = models.BooleanField(
        default=False, help_text="Also ask ISBNdb for ISBNs that are fresh or remembered as unknown."
    )
    purpose = models.CharField(max_length=100, blank=True, help_text="For the journal of calls.")

    @property
    def job_key(self) -> str:
        """The idempotency key of its job."""
        return f"list:{self.pk}"


class AuthorList(StaffList):
    content = models.BinaryField(help_text="The text or the file as given.")
    label = models.CharField(max_length=MAX_LABEL_LENGTH, help_text="Where the names come from, such as a file's name.")
    max_pages = models.PositiveSmallIntegerField(help_text="Maximum number of pages of 1,000 books for each author.")
    skip_existing = models.BooleanField(default=True)

    @property
    def job_key(self) -> str:
        """The idempotency key of its job."""
        return f"authors:{self.pk}"
