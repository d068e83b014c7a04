"""Request and answer of POST /api/authors/enrich-bibliography."""

from typing import Any

from rest_framework import serializers

from enrichment.gateway.listings import MAX_NAME_LENGTH
from enrichment.selectors.jobs import MAX_PAGES
from enrichment.serializers.books import FailedIsbnSerializer
from enrichment.serializers.fields import SearchableField, SpendingAnswerSerializer, SpendingRequestSerializer
from enrichment.serializers.jobs import JobOptionsSerializer
from enrichment.services.bibliographies import Bibliography
from enrichment.services.releases import NewReleases


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
