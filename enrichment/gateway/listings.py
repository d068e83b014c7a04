"""What ISBNdb gives page by page: an author's books, a month's, a subject's, and the ISBNs that changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from urllib.parse import quote

import msgspec

from enrichment.books import cleaning
from enrichment.books.decoding import Answer, UndecodableAnswer, decode_books
from enrichment.gateway.client import MIN_PAGE_SIZE, ask, new_request
from quota.spending import Spender

PAGE_SIZE = 1000  # the most on a page
MAX_RESULTS = 10_000  # nothing beyond can be had, however it is paged
MAX_NAME_LENGTH = 150  # characters


@dataclass(frozen=True)
class Listing:
    """A list of books that ISBNdb gives page by page: where, and narrowed by what."""

    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def books_by_author(name: str) -> Listing:
    """`GET /author/{name}`."""
    return Listing(f"/author/{quote(name, safe='')}")


def books_of_month(month: date, subject: str | None = None) -> Listing:
    """The books published in the month of `month`; with `subject`, those on it: `GET /books/{query}`."""
    wanted = f"{month:%Y-%m}"
    if subject is None:
        return Listing(f"/books/{wanted}", {"column": "date_published"})
    months = {"publishedFrom": wanted, "publishedTo": wanted}
    return Listing(f"/books/{quote(subject, safe='')}", {"column": "subjects", **months})


def fetch_page(listing: Listing, spender: Spender, *, page: int, page_size: int = PAGE_SIZE) -> Answer:
    """One page (from 1) of a listing, in one call; `total` of the answer is None where ISBNdb does not tell it.

    Raises IsbndbNotFound (ISBNdb does not know the name), IsbndbPageTooLarge (ask for less), any other IsbndbError,
    and what `Spender.dispatch` raises.
    """
    parameters = {**listing.parameters, "page": str(page), "pageSize": str(page_size)}
    return ask(
        spender,
        new_request("GET", listing.path, params=parameters),
        decode=_decode_listing,
        count=lambda answer: len(answer.books),
        may_be_too_large=page_size > MIN_PAGE_SIZE,
    )


def fetch_updates(spender: Spender, *, since: date, page: int, page_size: int = PAGE_SIZE) -> list[str]:
    """The valid ISBN-13s of one page (from 1) of what changed since a day, at most 7 days ago, in one call.

    `GET /feeds/books/updates`, on Premium plans and above. There is no total: a page without any is the last. Raises as
    `fetch_page` does.
    """
    parameters = {"lastUpdated": since.isoformat(), "page": str(page), "pageSize": str(page_size)}
    return ask(
        spender,
        new_request("GET", "/feeds/books/updates", params=parameters),
        decode=_decode_updates,
        count=len,
    )


def _decode_listing(body: bytes) -> Answer:
    """ISBNdb's OpenAPI file calls the list of `/books/{query}` `data`; the service calls it `books`."""
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
