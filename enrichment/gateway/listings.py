"""ISBNdb's lists of books, which come in pages: by author, month or subject, and the feed of changed ISBNs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from urllib.parse import quote

import msgspec

from enrichment.books import cleaning
from enrichment.books.decoding import Answer, UndecodableAnswer, decode_books
from enrichment.gateway.connection import new_request
from enrichment.gateway.questions import MIN_PAGE_SIZE, Question
from quota.prices import RequestKind
from quota.spending import Payer

PAGE_SIZE = 1000  # ISBNdb's maximum
MAX_RESULTS = 10_000  # of a listing; ISBNdb gives no more, with any page size
MAX_NAME_LENGTH = 150  # characters


@dataclass(frozen=True)
class Listing:
    """A list of books that ISBNdb gives in pages: its path, and the parameters that narrow it."""

    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def books_by_author(name: str) -> Listing:
    """`GET /author/{name}`."""
    return Listing(f"/author/{quote(name, safe='')}")


def books_of_month(month: date, subject: str | None = None) -> Listing:
    """`GET /books/{query}`: the books published in the month of `month`, on `subject` if given."""
    wanted = f"{month:%Y-%m}"
    if subject is None:
        return Listing(f"/books/{wanted}", {"column": "date_published"})
    months = {"publishedFrom": wanted, "publishedTo": wanted}
    return Listing(f"/books/{quote(subject, safe='')}", {"column": "subjects", **months})


def page_of(listing: Listing, payer: Payer, *, page: int, page_size: int = PAGE_SIZE) -> Question[Answer]:
    """One page of a listing, counted from 1. The answer's `total` is None when ISBNdb sends none.

    Its failure is IsbndbNotFound (ISBNdb does not know the name), IsbndbPageTooLarge (ask for less), or another
    IsbndbError.
    """
    parameters = {**listing.parameters, "page": str(page), "pageSize": str(page_size)}
    return Question(
        RequestKind.PAGE,
        new_request("GET", listing.path, params=parameters),
        _decode_listing,
        payer,
        count=lambda answer: len(answer.books),
        may_be_too_large=page_size > MIN_PAGE_SIZE,
    )


def updates_page(payer: Payer, *, since: date, page: int, page_size: int = PAGE_SIZE) -> Question[list[str]]:
    """The ISBN-13s on one page, counted from 1, of the books that changed since a day. It costs no call.

    `GET /feeds/books/updates`, on Premium plans and above, for at most the last 7 days. There is no total: the last
    page is empty.
    """
    parameters = {"lastUpdated": since.isoformat(), "page": str(page), "pageSize": str(page_size)}
    return Question(
        RequestKind.FEED,
        new_request("GET", "/feeds/books/updates", params=parameters),
        _decode_updates,
        payer,
        count=len,
    )


def _decode_listing(body: bytes) -> Answer:
    """The list of `/books/{query}` is `data` in ISBNdb's OpenAPI file, and `books` in real answers."""
    try:
        return decode_books(body, key="books")
    except UndecodableAnswer as error:
        try:
            return decode_books(body, key="data")
        except UndecodableAnswer:
            raise error from None


def _decode_updates(body: bytes) -> list[str]:
    class Updates(msgspec.Struct):
        data: list[dict[str, object]]

    items = msgspec.json.decode(body, type=Updates).data
    found = (cleaning.isbn(item.get("isbn13")) or cleaning.isbn(item.get("isbn")) for item in items)
    return list(dict.fromkeys(isbn for isbn in found if isbn))
