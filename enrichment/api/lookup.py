"""Looking up what is stored of a list of ISBNs. It never spends a call."""

from collections import Counter
from uuid import UUID

from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from enrichment.api.book_lists import BOOK_RENDERERS, book_list_answers, books_answer, books_page
from enrichment.api.jobs import InOrder, job_of
from enrichment.api.lists import LIST_PARSERS, list_bodies, read_list
from enrichment.isbn.reading import State
from enrichment.models import JobItem
from enrichment.selectors.jobs import check_items, suggestion_of
from enrichment.selectors.lookup import look_up
from enrichment.serializers.books import BOOK_STATES, BookItemSerializer
from enrichment.serializers.jobs import JobItemsQuerySerializer
from enrichment.serializers.lookup import (
    BookItemPageSerializer,
    LookupAnswerSerializer,
    LookupRequestSerializer,
    book_item,
    book_items,
)
from quota.api import asked_for

CURSOR = "From `next` or `previous` of a page."


class LookupView(APIView):
    takes_long = True
    parser_classes = LIST_PARSERS
    renderer_classes = BOOK_RENDERERS

    @extend_schema(
        operation_id="books_lookup",
        summary="The stored books of up to 1,000 ISBNs",
        request=list_bodies(LookupRequestSerializer),
        responses=book_list_answers(LookupAnswerSerializer, BookItemSerializer),
    )
    def post(self, request: Request) -> HttpResponseBase:
        """The book of each ISBN in your order, or why it has none. Never spends a call.

        The body can also be a bare list of ISBNs, or a file. NDJSON and CSV have a line for each ISBN.
        """
        wanted = read_list(request, LookupRequestSerializer)
        given = wanted["given"]
        items = book_items(given, look_up(given.valid))
        states = Counter(
            item["state"]
            for item, entry in zip(items, given.entries, strict=True)
            if entry.state is not State.DUPLICATE
        )
        answer = {
            "requested": given.requested,
            "valid": len(given.valid),
            "duplicates": given.duplicates,
            "by_state": {state: states[state] for state in BOOK_STATES},
            "notes": wanted["notes"],
        }
        return books_answer(request, answer, items)


class JobBooksView(APIView):
    takes_long = True
    renderer_classes = BOOK_RENDERERS

    @extend_schema(
        operation_id="job_books",
        summary="The books of a job of ISBNs",
        parameters=[JobItemsQuerySerializer, OpenApiParameter("cursor", str, description=CURSOR)],
        responses=book_list_answers(BookItemPageSerializer, BookItemSerializer),
        extensions={"x-has-items": True},
    )
    def get(self, request: Request, job_id: UUID) -> HttpResponseBase:
        """The stored book of each ISBN in the order of the list, or why it has none, 1,000 per page.

        The parameter `state` is an outcome in the job; the `state` of an item says what is stored now. With NDJSON and
        CSV, the header `Link` has the next page.
        """
        job = job_of(request, job_id)
        check_items(job)
        pages = InOrder()
        rows = job.items.filter(**asked_for(request, JobItemsQuerySerializer))
        page: list[JobItem] = pages.paginate_queryset(rows, request, view=self) or []
        found = look_up({item.isbn13 for item in page if item.isbn13})
        items = [
            book_item(
                item.value or item.isbn13, found.get(item.isbn13), reason=item.reason, suggestion=suggestion_of(item)
            )
            for item in page
        ]
        return books_page(request, pages, items)
