"""Queries and answers of the endpoints for stored books, authors and works."""

from collections.abc import Collection
from datetime import MAXYEAR
from typing import Any

from rest_framework import serializers
from rest_framework.reverse import reverse

from enrichment.books.shown import SHOWN_FIELDS, shown_edition
from enrichment.gateway.listings import MAX_NAME_LENGTH
from enrichment.isbn.parsing import InvalidIsbn, parse
from enrichment.models import Author, Edition
from enrichment.selectors.catalogue import MAX_EDITIONS
from enrichment.selectors.stats import MAX_COUNTED
from enrichment.serializers.books import AuthorSerializer, EditionSerializer, WorkSerializer
from enrichment.serializers.fields import ParameterListField, PartialDateField, SearchTextField
from quota.serializers import EXAMPLE_STATUS, QuerySerializer, QuotaStatusSerializer, example

MAX_PAGE_SIZE = 200
MAX_BOOKS_PAGE_SIZE = 1000  # for programs that keep a copy of all books
MAX_ID = 2**63 - 1
MAX_ISBNS = 100  # in an address
RELEVANT = ("title", "author", "publisher")
"""The criteria that match more or less well."""
MAX_TOP_AUTHORS = 20_000
"""A bulk harvest reads up to this rank."""
SUMMARY_FIELDS = (
    "isbn13",
    "title",
    "work",
    "authors",
    "publisher",
    "language",
    "binding",
    "pages",
    "date_published",
    "date_precision",
    "image",
    "synced_at",
)
"""The fields of a book in a list, unless the request names others."""
ALL_FIELDS = "all"
"""The word for every field that is shown."""


class PageQuerySerializer(QuerySerializer):
    page_size = serializers.IntegerField(min_value=1, max_value=MAX_PAGE_SIZE, required=False)


class IsbnField(serializers.CharField):
    """An ISBN in any form. Its value is the ISBN-13."""

    def to_internal_value(self, data: Any) -> str:
        try:
            return parse(super().to_internal_value(data))
        except InvalidIsbn as error:
            raise serializers.ValidationError(f"{data!r} is not a valid ISBN: {error.reason}.") from error


class BooksQuerySerializer(QuerySerializer):
    """Criteria for books. A book must match all of them.

    In a title, an author and a publisher, parts of words match, and so do similar words. A subject, a language and a
    binding match as a whole. Case makes no difference.
    """

    page_size = serializers.IntegerField(min_value=1, max_value=MAX_BOOKS_PAGE_SIZE, required=False)
    isbn = ParameterListField(
        child=IsbnField(max_length=100),
        max_length=MAX_ISBNS,
        required=False,
        help_text=f"Up to {MAX_ISBNS} ISBNs in any form: several parameters, or with commas between them.",
    )
    title = SearchTextField(max_length=MAX_NAME_LENGTH, required=False)
    author = SearchTextField(max_length=MAX_NAME_LENGTH, required=False, help_text="A name, in any spelling.")
    author_id = serializers.IntegerField(min_value=1, max_value=MAX_ID, required=False)
    work_id = serializers.IntegerField(min_value=1, max_value=MAX_ID, required=False)
    publisher = SearchTextField(max_length=MAX_NAME_LENGTH, required=False)
    subject = serializers.CharField(max_length=MAX_NAME_LENGTH, required=False, help_text="One of its subjects.")
    language = serializers.CharField(
        max_length=MAX_NAME_LENGTH, required=False, help_text="A code or a name, as ISBNdb sends it."
    )
    binding = serializers.CharField(max_length=MAX_NAME_LENGTH, required=False)
    year = serializers.IntegerField(
        min_value=1, max_value=MAXYEAR, required=False, help_text="The year of publication."
    )
    published_from = PartialDateField(
        required=False,
        help_text="A day, a month or a year. A book of which only the month or year is known counts as of its first "
        "day.",
    )
    published_to = PartialDateField(required=False, last=True, help_text="The same; all of the month or year counts.")
    updated_since = serializers.DateTimeField(
        required=False,
        help_text="The books that were stored or changed since then, in the order of their changes. Follow `next`; "
        "`updated_until` of the last page is the next `updated_since`.",
    )
    ordering = serializers.ChoiceField(
        ["isbn", "date", "-date", "relevance"],
        required=False,
        help_text="By ISBN (the default), by date of publication with the oldest or the newest first, or by how well "
        "title, author and publisher match. A book without a date counts as the oldest.",
    )
    cursor = serializers.CharField(required=False, help_text="From `next` or `previous` of a page.")
    fields = ParameterListField(  # type: ignore[assignment]  # a parameter of that name
        child=serializers.ChoiceField([ALL_FIELDS, *SHOWN_FIELDS]),
        max_length=len(SHOWN_FIELDS) + 1,
        required=False,
        help_text="The fields to show, with commas between them. `isbn13` is always shown, and `all` stands for every "
        f"field that `GET /api/books/{{isbn}}` shows: {', '.join(SHOWN_FIELDS)}. Without this parameter: "
        f"{', '.join(SUMMARY_FIELDS)}.",
    )

    def validate_fields(self, value: Collection[str]) -> list[str]:
        """The fields to show, in order."""
        return [name for name in SHOWN_FIELDS if name == "isbn13" or name in value or ALL_FIELDS in value]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "ordering" in attrs and "updated_since" in attrs:
            raise serializers.ValidationError(
                {"ordering": "Leave it out: with `updated_since`, books come in the order of their changes."}
            )
        if attrs.get("ordering") == "relevance" and not attrs.keys() & RELEVANT:
            raise serializers.ValidationError({"ordering": f"Relevance needs one of {', '.join(RELEVANT)}."})
        return attrs


class AuthorsQuerySerializer(PageQuerySerializer):
    search = SearchTextField(
        max_length=MAX_NAME_LENGTH, required=False, help_text="A name or a part of one, in any spelling."
    )


class TopAuthorsQuerySerializer(QuerySerializer):
    limit = serializers.IntegerField(min_value=1, max_value=MAX_TOP_AUTHORS, default=100)


class BookSummarySerializer(EditionSerializer):
    """A stored edition without its long texts. `/api/books/{isbn}` shows them."""

    class Meta:
        model = Edition
        fields = SUMMARY_FIELDS
        read_only_fields = fields


class ListedBookSerializer(EditionSerializer):
    """A stored edition with the fields that the request names, or without its long texts.

    context: `fields`, the names. Only `isbn13` is always there.
    """

    def to_representation(self, edition: Edition) -> dict[str, Any]:
        return shown_edition(edition, self.context["fields"])


class BookPageSerializer(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True, help_text="The next page. null: there is none.")
    previous = serializers.URLField(allow_null=True)
    results = ListedBookSerializer(many=True)
    updated_until = serializers.DateTimeField(
        required=False,
        help_text="Only with `updated_since`: every change before this time is on this page or an earlier one, when "
        "`next` is null. Send it as the next `updated_since`.",
    )


class CountedAuthorSerializer(AuthorSerializer):
    editions = serializers.IntegerField(source="editions_count", help_text="Number of stored editions of the author.")


class TopAuthorsSerializer(serializers.Serializer[Any]):
    results = CountedAuthorSerializer(many=True, help_text="Those with the most editions first.")


class AuthorDetailSerializer(CountedAuthorSerializer):
    works = serializers.IntegerField(source="works_count", help_text="Number of works of these editions.")
    books = serializers.SerializerMethodField(help_text="The address of the author's editions.")

    def get_books(self, author: Author) -> str:
        return f"{reverse('books', request=self.context['request'])}?author_id={author.pk}"


class WorkDetailSerializer(WorkSerializer):
    editions = BookSummarySerializer(
        source="first_editions", many=True, help_text=f"The first {MAX_EDITIONS:,} editions, by ISBN."
    )
    editions_count = serializers.IntegerField(help_text="Number of stored editions.")


@example({"books": 600, "works": 533, "authors": 412, "misses": 7, "queued": 0, "exact": True, "quota": EXAMPLE_STATUS})
class StatsSerializer(serializers.Serializer[Any]):
    """How much is stored, and today's calls."""

    books = serializers.IntegerField(help_text="Stored editions.")
    works = serializers.IntegerField()
    authors = serializers.IntegerField()
    misses = serializers.IntegerField(help_text="ISBNs that ISBNdb did not know when it was last asked.")
    queued = serializers.IntegerField(help_text="ISBNs in the queue, including those that failed.")
    exact = serializers.BooleanField(
        help_text=f"false: a figure above {MAX_COUNTED:,} is PostgreSQL's estimate, off by a few per cent."
    )
    quota = QuotaStatusSerializer(help_text="`used` is the number of today's calls.")
