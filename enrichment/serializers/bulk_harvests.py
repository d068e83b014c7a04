"""Request of POST /api/authors/bulk-harvest."""

from typing import Any

from rest_framework import serializers

from enrichment.authors.names import NamesUnreadable, collect
from enrichment.models.jobs import MAX_LABEL_LENGTH
from enrichment.selectors.jobs import MAX_PAGES
from enrichment.serializers.fields import ShortListField, SpendingRequestSerializer
from enrichment.serializers.jobs import JobOptionsSerializer

MAX_AUTHORS = 20_000
MAX_REJECTED = 50
"""Maximum number of names that one refusal lists."""


class BulkHarvestRequestSerializer(JobOptionsSerializer, SpendingRequestSerializer):
    authors = ShortListField(
        child=serializers.CharField(allow_blank=True),
        max_length=MAX_AUTHORS,
        help_text=f"1 to {MAX_AUTHORS:,} names, one author each. All spellings of a name count once.",
    )
    max_pages = serializers.IntegerField(
        min_value=1,
        max_value=MAX_PAGES,
        default=MAX_PAGES,
        help_text="Maximum number of pages of 1,000 books for each author.",
    )
    skip_existing = serializers.BooleanField(
        default=True,
        help_text="Do not update stored editions that are fresh, and do not ask ISBNdb for authors that it recently "
        "did not know.",
    )
    again = serializers.BooleanField(
        default=False, help_text="Pay for the list again, although a job for it has ended."
    )
    label = serializers.CharField(  # type: ignore[assignment]  # a field of that name, not the option
        max_length=MAX_LABEL_LENGTH, default="", allow_blank=True, help_text="Where the list comes from, for people."
    )
    list_key = serializers.RegexField(
        r"\A[\w.:-]*\Z",
        max_length=64,
        default="",
        allow_blank=True,
        help_text="Identifies the list; by default its names in their order do. For a list whose names change.",
    )

    def validate_authors(self, given: list[str]) -> list[str]:
        """The names, each once. The errors have the positions of what is not a name."""
        try:
            names = collect(enumerate(given))
        except NamesUnreadable as error:
            raise serializers.ValidationError(str(error)) from error
        if names.rejected:
            raise serializers.ValidationError(
                {str(bad.line): [f"This is not a name: {bad.reason}."] for bad in names.rejected[:MAX_REJECTED]}
            )
        return names.names

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not self.context.get("as_job"):
            raise serializers.ValidationError(
                {"Prefer": "This is always a job. Send the header Prefer: respond-async."}
            )
        return attrs
