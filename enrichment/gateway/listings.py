"""ISBNdb's lists of books, which come in pages: by author, month or subject, and the feed of changed ISBNs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from urllib.parse import quote

import msgspec

from enrichment.books import cleaning
from enrichment.books.decoding import Answer, UndecodableAnswer, decode_books, members_of
from enrichment.gateway.connection import new_request
from enrichment.gateway.questions import MIN_PAGE_SIZE, Question
from quota.prices import RequestKind
from quota.spending import Payer

PAGE_SIZE = 1000  # ISBNdb's maximum
DEFAULT_PAGE_SIZE = 20  # ISBNdb's, when a request does not say it
MAX_RESULTS = 10_000  # of a listing; ISBNdb gives no more, with any page size
MAX_NAME_LENGTH = 150  # characters


@dataclass(frozen=True)
class Listing:
    """A list of books that ISBNdb gives in pages: its path, and the parameters that narrow it."""

    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RawPage:
    """A page of a listing: its members as ISBNdb sent them, and its books."""

    members: dict[str, msgspec.Raw]
    answer: Answer


def listing_of(kind: str, name: str, parameters: Mapping[str, str] | None = None) -> Listing:
    """`GET /{kind}/{name}`. `kind`: author, publisher, subject, or books, where the name is what to search for."""
    return Listing(f"/{kind}/{quote(name, safe='')}", parameters or {})


def books_by_author(name: str) -> Listing:
    """`GET /author/{name}`."""
    return listing_of("author", name)


def books_of_month(month: date, subject: str | None = None) -> Listing:
    """`GET /books/{query}`: the books published in the month of `month`, on `subject` if given."""
    wanted = f"{month:%Y-%m}"
    if subject is None:
        return Listing(f"/books/{wanted}", {"column": "date_published"})
    months = {"publishedFrom": wanted, "publishedTo": wanted}
    return listing_of("books", subject, {"column": "subjects", **months})


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


def raw_page_of(listing: Listing, payer: Payer) -> Question[RawPage]:
    """The page that the parameters of the listing name, by `page` and `pageSize`, to pass it on as it is.

    Its failures are those of `page_of`.
    """
    return Question(
        RequestKind.PAGE,
        new_request("GET", listing.path, params=dict(listing.parameters)),
        lambda body: RawPage(members_of(body), _decode_listing(body)),
        payer,
        count=lambda page: len(page.answer.books),
        may_be_too_large=int(listing.parameters.get("pageSize", DEFAULT_PAGE_SIZE)) > MIN_PAGE_SIZE,
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
