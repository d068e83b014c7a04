"""Endpoints that find stored books, authors and works: parse, call one selector, render. They never spend a call."""

from dataclasses import asdict
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alexandria.common.pagination import CursorPages, KeysetPages
from alexandria.common.searching import searching
from enrichment.books.following import settled_until
from enrichment.models import Author, Edition
from enrichment.selectors.catalogue import (
    Criteria,
    by_date,
    by_relevance,
    find_authors,
    find_books,
    get_author,
    get_work,
    top_authors,
    with_editions,
)
from enrichment.selectors.stats import get_stats
from enrichment.serializers.catalogue import (
    MAX_BOOKS_PAGE_SIZE,
    MAX_PAGE_SIZE,
    SUMMARY_FIELDS,
    AuthorDetailSerializer,
    AuthorsQuerySerializer,
    BookPageSerializer,
    BooksQuerySerializer,
    CountedAuthorSerializer,
    ListedBookSerializer,
    StatsSerializer,
    TopAuthorsQuerySerializer,
    TopAuthorsSerializer,
    WorkDetailSerializer,
)
from quota.api import asked_for, ratelimit_headers
from quota.selectors.status import get_status

PAGE_SIZE = 50


class AuthorPages(CursorPages):
    ordering = "name_key"
    page_size = PAGE_SIZE
    page_size_query_param = "page_size"
    max_page_size = MAX_PAGE_SIZE


class BookPages(KeysetPages):
    page_size = PAGE_SIZE
    page_size_query_param = "page_size"
    max_page_size = MAX_BOOKS_PAGE_SIZE


class BooksView(APIView):
    @extend_schema(
        operation_id="books",
        summary="Stored books",
        parameters=[BooksQuerySerializer],
        responses={200: BookPageSerializer},
    )
    def get(self, request: Request) -> Response:
        """The stored books that match all criteria, in pages.

        With `updated_since`, a program keeps its copy: no change is ever missed, however long a transaction takes.
        """
        wanted = asked_for(request, BooksQuerySerializer)
        fields = wanted.pop("fields", SUMMARY_FIELDS)
        ordering, isbns = wanted.pop("ordering", "isbn"), wanted.pop("isbn", ())
        since = wanted.get("updated_since")
        until = max(settled_until(), since) if since else None
        criteria = Criteria(isbns=isbns, updated_before=until, **wanted)
        books, pages = _in_order(find_books(criteria, fields=fields), ordering, criteria)
        with searching():
            page = pages.paginate_queryset(books, request, view=self)
        answer = pages.get_paginated_response(ListedBookSerializer(page, many=True, context={"fields": fields}).data)
        if until is not None:
            answer.data["updated_until"] = until
        return answer


def _in_order(books: QuerySet[Edition], ordering: str, criteria: Criteria) -> tuple[QuerySet[Edition], BookPages]:
    if criteria.updated_since is not None:
        return books, BookPages("updated_at", "isbn13")
    match ordering:
        case "date":
            return by_date(books), BookPages("day", "isbn13")
        case "-date":
            return by_date(books), BookPages("-day", "-isbn13")
        case "relevance":
            return by_relevance(books, criteria), BookPages("distance", "isbn13")
    return books, BookPages("isbn13")


class AuthorsView(ListAPIView[Author]):
    serializer_class = CountedAuthorSerializer
    pagination_class = AuthorPages

    @extend_schema(operation_id="authors", summary="Stored authors", parameters=[AuthorsQuerySerializer])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The stored authors whose names match, by name, in pages."""
        with searching():
            return super().get(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[Author]:
        name = asked_for(self.request, AuthorsQuerySerializer).get("search", "")
        return with_editions(find_authors(name))


class TopAuthorsView(APIView):
    @extend_schema(
        operation_id="top_authors",
        summary="The authors with the most stored editions",
        parameters=[TopAuthorsQuerySerializer],
        responses={200: TopAuthorsSerializer},
    )
    def get(self, request: Request) -> Response:
        """The stored authors, those with the most editions first."""
        with searching():
            authors = top_authors(**asked_for(request, TopAuthorsQuerySerializer))
        return Response(TopAuthorsSerializer({"results": authors}).data)


class AuthorView(APIView):
    @extend_schema(operation_id="author", summary="A stored author", responses={200: AuthorDetailSerializer})
    def get(self, request: Request, author_id: int) -> Response:
        """The author's name, the number of stored editions and works, and a link to the editions."""
        author = get_author(author_id)
        if author is None:
            raise NotFound(f"No author {author_id} is stored. GET /api/authors?search= finds authors by name.")
        return Response(AuthorDetailSerializer(author, context={"request": request}).data)


class WorkView(APIView):
    @extend_schema(operation_id="work", summary="A stored work", responses={200: WorkDetailSerializer})
    def get(self, request: Request, work_id: int) -> Response:
        """A work with its editions."""
        work = get_work(work_id)
        if work is None:
            raise NotFound(f"No work {work_id} is stored.")
        return Response(WorkDetailSerializer(work).data)


class StatsView(APIView):
    @extend_schema(operation_id="stats", summary="How much is stored", responses={200: StatsSerializer})
    def get(self, request: Request) -> Response:
        """Books, works, authors, misses, the queue, and today's calls."""
        stats, status = get_stats(), get_status()
        answer = StatsSerializer({**asdict(stats), "quota": status}).data
        return Response(answer, headers=ratelimit_headers(status))
