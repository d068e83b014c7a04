"""Requests and answers of POST /api/authors/enrich-bibliography and /api/authors/bulk-harvest."""

from typing import Any

from rest_framework import serializers

from enrichment.authors.names import NamesUnreadable, collect
from enrichment.gateway.listings import MAX_NAME_LENGTH
from enrichment.models.jobs import MAX_LABEL_LENGTH
from enrichment.selectors.jobs import MAX_PAGES
from enrichment.serializers.books import FailedIsbnSerializer
from enrichment.serializers.fields import (
    SearchableField,
    ShortListField,
    SpendingAnswerSerializer,
    SpendingRequestSerializer,
)
from enrichment.serializers.jobs import JobOptionsSerializer
from enrichment.services.bibliographies import Bibliography
from enrichment.services.releases import NewReleases

MAX_AUTHORS = 20_000
MAX_REJECTED = 50
"""Maximum number of names that one refusal lists."""


class BibliographyRequestSerializer(JobOptionsSerializer, SpendingRequestSerializer):
    author_name = SearchableField(max_length=MAX_NAME_LENGTH, help_text="In any spelling that ISBNdb knows.")
    max_pages = serializers.IntegerField(
        min_value=1, max_value=MAX_PAGES, default=MAX_PAGES, help_text="Maximum number of pages of 1,000 books."
    )
    start_page = serializers.IntegerField(
        min_value=1, max_value=MAX_PAGES, default=1, help_text="The `next_page` of a run that stopped."
    )
    skip_existing = serializers.BooleanField(default=True, help_text="Do not update stored editions that are fresh.")
    refresh = serializers.BooleanField(
        default=False,
        help_text="Ask ISBNdb even if it has listed the author within a day, or recently did not know the author. "
        "Without `skip_existing` it is always asked.",
    )


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


class ListingFiguresSerializer(serializers.Serializer[Any]):
    """books_found = new + changed + unchanged + already_fresh + failed.

    With `skip_existing`, only new and stale books are stored.
    """

    # A result lists its own fields (`as_dict`); the serializers describe them.
    books_found = serializers.IntegerField(help_text="Number of different books on the pages.")
    new = serializers.IntegerField(help_text="Number of them that were not stored before, and are now.")
    changed = serializers.IntegerField(help_text="Number of stored books that ISBNdb sent with other content.")
    unchanged = serializers.IntegerField(help_text="Number of stored books that ISBNdb sent as they are.")
    already_fresh = serializers.IntegerField(
        help_text="Number of stored books that need no refresh, and were left alone. 0 without `skip_existing`."
    )
    failed = serializers.IntegerField(help_text="Number of books that could not be stored; `errors` has the reasons.")
    already_existed = serializers.IntegerField(help_text="Number of them that were stored before.")
    enriched = serializers.IntegerField(help_text="new + changed + unchanged: the books that this request stored.")
    pages_fetched = serializers.IntegerField()
    api_calls = serializers.IntegerField(help_text="Calls that this request spent, including retries.")
    complete = serializers.BooleanField()
    stopped_reason = serializers.CharField(
        allow_null=True,
        help_text="Why it is not complete: a limit of the quota (as `limit` of a 429), `switched_off`, `released` (by "
        "staff), `time_limit`, or what failed. null: it is complete.",
    )
    errors = FailedIsbnSerializer(many=True)  # type: ignore[assignment]  # a field of that name

    def to_representation(self, instance: Bibliography | NewReleases) -> dict[str, Any]:
        return instance.as_dict()


class BibliographySerializer(ListingFiguresSerializer):
    author = serializers.CharField()
    complete = serializers.BooleanField(help_text="Every book that ISBNdb has of the author was fetched.")
    stopped_reason = serializers.CharField(
        allow_null=True,
        help_text="Why it is not complete: `max_pages`, `isbndb_ceiling` (ISBNdb returns at most 10,000 books), a "
        "limit of the quota (as `limit` of a 429), `switched_off`, `released` (by staff), or what failed.",
    )
    next_page = serializers.IntegerField(
        allow_null=True, help_text="The `start_page` to continue with. null: no page is left."
    )
    listed_at = serializers.DateTimeField(
        allow_null=True,
        help_text="ISBNdb listed these books then, so it was not asked again. Send `refresh` to ask it. null: it was "
        "asked, or it recently did not know the author.",
    )


class BibliographyAnswerSerializer(SpendingAnswerSerializer, BibliographySerializer):
    """The same, with the quota."""
