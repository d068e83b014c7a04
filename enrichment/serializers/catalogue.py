"""Queries and answers of the endpoints for stored books, authors and works."""

from datetime import MAXYEAR
from typing import Any

from rest_framework import serializers
from rest_framework.reverse import reverse

from enrichment.gateway.listings import MAX_NAME_LENGTH
from enrichment.models import Author, Edition
from enrichment.selectors.catalogue import MAX_EDITIONS
from enrichment.selectors.stats import MAX_COUNTED
from enrichment.serializers.books import AuthorSerializer, EditionSerializer, WorkSerializer
from quota.serializers import EXAMPLE_STATUS, QuerySerializer, QuotaStatusSerializer, example

MAX_PAGE_SIZE = 200
MAX_ID = 2**63 - 1
MAX_TOP_AUTHORS = 20_000
"""A bulk harvest reads up to this rank."""


class PageQuerySerializer(QuerySerializer):
    page_size = serializers.IntegerField(min_value=1, max_value=MAX_PAGE_SIZE, required=False)


class BooksQuerySerializer(PageQuerySerializer):
    """Criteria for books. A book must match all of them. Parts of words match, and so do similar words."""

    title = serializers.CharField(max_length=MAX_NAME_LENGTH, required=False)
    author = serializers.CharField(max_length=MAX_NAME_LENGTH, required=False, help_text="A name, in any spelling.")
    author_id = serializers.IntegerField(min_value=1, max_value=MAX_ID, required=False)
    publisher = serializers.CharField(max_length=MAX_NAME_LENGTH, required=False)
    year = serializers.IntegerField(
        min_value=1, max_value=MAXYEAR, required=False, help_text="The year of publication."
    )


class AuthorsQuerySerializer(PageQuerySerializer):
    search = serializers.CharField(
        max_length=MAX_NAME_LENGTH, required=False, help_text="A name or a part of one, in any spelling."
    )


class TopAuthorsQuerySerializer(QuerySerializer):
    limit = serializers.IntegerField(min_value=1, max_value=MAX_TOP_AUTHORS, required=False, default=100)


class BookSummarySerializer(EditionSerializer):
    """A stored edition without its long texts. `/api/books/{isbn}` shows them."""

    class Meta:
        model = Edition
        fields = (
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
        read_only_fields = fields


class CountedAuthorSerializer(AuthorSerializer):
    editions = serializers.IntegerField(source="editions_count", help_text="Number of stored editions of the author.")


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


@example(
    {
        "books": 600,
        "works": 533,
        "authors": 412,
        "misses": 7,
        "queued": 0,
        "exact": True,
        "quota": EXAMPLE_STATUS,
    }
)
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
