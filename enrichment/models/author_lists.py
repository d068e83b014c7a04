"""Lists of authors that staff enter. `enrichment.jobs.author_lists` reads and runs them."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from enrichment.models.jobs import MAX_LABEL_LENGTH


class AuthorList(models.Model):
    """Names that a member of staff entered, stored from the page that shows their cost until the job starts."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(db_default=Now())
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    content = models.BinaryField(help_text="The text or the file as given.")
    label = models.CharField(max_length=MAX_LABEL_LENGTH, help_text="Where the names come from, such as a file's name.")
    max_pages = models.PositiveSmallIntegerField(help_text="Maximum number of pages of 1,000 books for each author.")
    skip_existing = models.BooleanField(default=True)

    class Meta:
        ordering = ["-created_at"]
        default_permissions = ()
        indexes = [models.Index(fields=["created_at"], name="enrichment_authorlist_created")]

    def __str__(self) -> str:
        return f"list {self.id}"
