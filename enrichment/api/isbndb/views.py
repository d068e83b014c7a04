"""ISBNdb's endpoints: parse, call one service, answer as ISBNdb does."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import msgspec
from django.http import HttpResponse, JsonResponse
from rest_framework.exceptions import NotFound
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from alexandria.common.searching import searching
from enrichment.api.isbndb.authentication import IsbndbKeyAuthentication
from enrichment.api.isbndb.errors import error_answer, origin_headers
from enrichment.api.isbndb.parameters import NamedSerializer, QueriedSerializer, SearchSerializer, asked_for, isbns_of
from enrichment.gateway.listings import DEFAULT_PAGE_SIZE, Listing, listing_of
from enrichment.isbn.parsing import InvalidIsbn, parse
from enrichment.isbn.reading import read
from enrichment.selectors.isbndb import stored_counts
from enrichment.services.isbndb import get_author_page, get_book, get_books, get_page
from quota.authentication import consumer_of
from quota.selectors.allowances import allowances


class AlwaysJson(BaseContentNegotiation):
    """ISBNdb answers in JSON, whatever a program accepts."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


class IsbndbView(APIView):
    """The base of the views: ISBNdb's keys and errors. It is not in our schema, because ISBNdb's describes it."""

    authentication_classes = (IsbndbKeyAuthentication,)
    content_negotiation_class = AlwaysJson
    http_method_names = ["get", "post"]  # HEAD would spend a call
    schema = None

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], JsonResponse]:
        return error_answer


class BookView(IsbndbView):
    def get(self, request: Request, isbn: str) -> HttpResponse:
        """`with_prices` changes nothing: the prices of merchants are not stored."""
        try:
            isbn13 = parse(isbn)
        except InvalidIsbn as error:
            raise NotFound(f"{isbn!r} is not a valid ISBN: {error}.") from error
        found = get_book(isbn13, consumer=consumer_of(request).slug, operation="isbndb-book")
        return _answer({"book": found.raw[0]}, found.api_calls)


class BooksView(IsbndbView):
    def post(self, request: Request) -> HttpResponse:
        """A value that is no ISBN has no book, without a word, as at ISBNdb."""
        requested, isbns = isbns_of(request)
        found = get_books(isbns, consumer=consumer_of(request).slug, operation="isbndb-books")
        books = {"total": len(found.raw), "requested": requested, "data": found.raw}
        return _answer(books, found.api_calls)


class AuthorView(IsbndbView):
    def get(self, request: Request, name: str) -> HttpResponse:
        wanted = asked_for(request, NamedSerializer, name=name)
        page = get_author_page(
            wanted.pop("name"), wanted, consumer=consumer_of(request).slug, operation="isbndb-author"
        )
        return _answer(page.members, page.api_calls)


class NamedView(IsbndbView):
    kind = ""
    """`publisher` or `subject`."""

    def get(self, request: Request, name: str) -> HttpResponse:
        wanted = asked_for(request, NamedSerializer, name=name)
        listing = listing_of(self.kind, wanted.pop("name"), wanted)
        page = get_page(listing, consumer=consumer_of(request).slug, operation=f"isbndb-{self.kind}")
        return _answer(page.members, page.api_calls)


class QueriedView(IsbndbView):
    def get(self, request: Request, query: str) -> HttpResponse:
        wanted = asked_for(request, QueriedSerializer, query=query)
        listing = listing_of("books", wanted.pop("query"), wanted)
        page = get_page(listing, consumer=consumer_of(request).slug, operation="isbndb-query")
        # ISBNdb's OpenAPI file names the list `data`, and its answers name it `books`. Programs rely on either.
        books = page.members["books" if "books" in page.members else "data"]
        return _answer({"data": books, "books": books} | page.members, page.api_calls)


class SearchView(IsbndbView):
    def get(self, request: Request) -> HttpResponse:
        """A search for nothing but an ISBN is answered like `GET /book/{isbn}`: from the store, if that is fresh."""
        wanted = asked_for(request, SearchSerializer)
        payer = {"consumer": consumer_of(request).slug, "operation": "isbndb-search"}
        if (isbn := _only_isbn(wanted)) is None:
            page = get_page(Listing("/search/books", wanted), **payer)
            return _answer(page.members, page.api_calls)
        found = get_books([isbn], **payer)
        number, size = int(wanted.get("page", 1)), int(wanted.get("pageSize", DEFAULT_PAGE_SIZE))
        data = found.raw if number == 1 else []
        return _answer({"data": data, "total": len(found.raw), "page": number, "page_size": size}, found.api_calls)


class KeyView(IsbndbView):
    def get(self, request: Request) -> HttpResponse:
        """The consumer's own plan: its daily budget or, without one, what it has used and can still use today."""
        [mine] = allowances([consumer_of(request)]).values()
        budget = mine.consumer.daily_budget
        total = mine.used + mine.free_today if budget is None else budget
        plan = {"total": total, "spent": mine.used, "left": mine.free_today}
        return _answer({"api_host": request.build_absolute_uri("/isbndb"), "plan_limit": plan}, 0)


class StatsView(IsbndbView):
    def get(self, request: Request) -> HttpResponse:
        """What Alexandria has stored, not what ISBNdb has."""
        with searching():
            counts = stored_counts()
        return _answer(asdict(counts), 0)


class NoSuchPath(IsbndbView):
    """The rest of ISBNdb's paths, and all others. It needs a key, as the views do."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound(f"Alexandria does not serve {request.path}. docs/isbndb-interface.md lists what it serves.")


def _only_isbn(wanted: Mapping[str, str]) -> str | None:
    """The ISBN-13 that is searched for, if it is valid and nothing else is searched for."""
    match {name: value for name, value in wanted.items() if name not in {"page", "pageSize"}}:
        case {"isbn": isbn, **others} | {"isbn13": isbn, **others} if not others:
            return next(iter(read([isbn]).valid), None)
    return None


def _answer(members: dict[str, Any], api_calls: int) -> HttpResponse:
    body = msgspec.json.encode(members)
    return HttpResponse(body, content_type="application/json", headers=origin_headers(api_calls))
