"""What POST /api/authors/enrich-bibliography takes and gives."""

from typing import Any

from rest_framework import serializers

from enrichment.gateway.listings import MAX_NAME_LENGTH
from enrichment.serializers.books import FailedIsbnSerializer
from enrichment.serializers.fields import SearchableField, SpendingAnswerSerializer, SpendingRequestSerializer
from enrichment.serializers.jobs import JobOptionsSerializer
from enrichment.services.bibliographies import MAX_PAGES, Bibliography
from enrichment.services.releases import NewReleases


class BibliographyRequestSerializer(JobOptionsSerializer, SpendingRequestSerializer):
    author_name = SearchableField(max_length=MAX_NAME_LENGTH, help_text="In any spelling that ISBNdb knows.")
    max_pages = serializers.IntegerField(
        min_value=1,
        max_value=MAX_PAGES,
        required=False,
        default=MAX_PAGES,
        help_text="At most so many pages of 1,000 books.",
    )
    start_page = serializers.IntegerField(
        min_value=1, max_value=MAX_PAGES, required=False, default=1, help_text="`next_page` of a run that stopped."
    )
    skip_existing = serializers.BooleanField(
        required=False,
        default=True,
        help_text="Leave stored editions that are fresh as they are, and do not ask for an author who is remembered as "
        "unknown.",
    )


class ListingFiguresSerializer(serializers.Serializer[Any]):
    """The figures of pages of books. A result lists its own fields (`as_dict`); the serializers describe them."""

    books_found = serializers.IntegerField(help_text="Usable books on the pages.")
    already_existed = serializers.IntegerField(help_text="Of these, stored before.")
    enriched = serializers.IntegerField(help_text="Of these, stored now.")
    failed = serializers.IntegerField(help_text="Not stored; `errors` says why.")
    pages_fetched = serializers.IntegerField()
    api_calls = serializers.IntegerField(help_text="Calls that this request spent, retries included.")
    complete = serializers.BooleanField()
    stopped_reason = serializers.CharField(
        allow_null=True,
        help_text="The quota's limit (as `limit` of a 429), `switched_off`, `released` (by staff), `time_limit`, or "
        "what failed; null when it is complete.",
    )
    errors = FailedIsbnSerializer(many=True)  # type: ignore[assignment]  # a field of that name

    def to_representation(self, instance: Bibliography | NewReleases) -> dict[str, Any]:
        return instance.as_dict()


class BibliographySerializer(ListingFiguresSerializer):
    """books_found = already_existed + new ones. With `skip_existing`, only those new or not fresh are stored."""

    author = serializers.CharField()
    complete = serializers.BooleanField(help_text="Everything that ISBNdb has of the author was fetched.")
    stopped_reason = serializers.CharField(
        allow_null=True,
        help_text="Why it is not complete: `max_pages`, `isbndb_ceiling` (it gives 10,000 books at the most), the "
        "quota's limit (as `limit` of a 429), `switched_off`, `released` (by staff), or what failed.",
    )
    next_page = serializers.IntegerField(
        allow_null=True, help_text="`start_page` with which to go on; null when there is nothing to go on with."
    )


class BibliographyAnswerSerializer(SpendingAnswerSerializer, BibliographySerializer):
    """The same, with the quota."""
