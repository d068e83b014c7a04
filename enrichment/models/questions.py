"""What ISBNdb is asked now, and what it has listed lately: so that nobody pays for the same answer twice."""

from django.db import models


class OpenQuestion(models.Model):
    """Something that ISBNdb is asked now. Others who want to know it wait for the answer.

    enrichment/services/single_flight.py says how.
    """

    subject = models.TextField(primary_key=True, db_collation="C", help_text="What is asked, such as an ISBN-13.")
    asker = models.UUIDField(help_text="Who asks.")
    until = models.DateTimeField(help_text="After this time the asker counts as dead. It moves the time on.")

    def __str__(self) -> str:
        return self.subject


class ListedAuthor(models.Model):
    """An author whose books ISBNdb has listed from the first page on. Another spelling is another author."""

    name = models.TextField(primary_key=True, db_collation="C", help_text="The name as ISBNdb was asked for it.")
    listed_at = models.DateTimeField(help_text="When the last page came.")
    next_page = models.PositiveSmallIntegerField(null=True, help_text="The first page that is missing. Empty: none.")
    stopped_reason = models.CharField(max_length=100, blank=True, help_text="Why books are missing. Empty: none are.")

    def __str__(self) -> str:
        return self.name
