"""Answers what ISBNdb can be asked, in its own form: from the store where that is fresh, otherwise from ISBNdb.

Whatever ISBNdb sends is stored, and paid by the consumer that asks.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import structlog

from alexandria.common.database import OUT_OF_REACH
from enrichment.books.aside import store_or_put_aside
from enrichment.books.decoding import Answer
from enrichment.books.storage import remember_author_miss, store_books
from enrichment.exceptions import (
    ENDINGS,
    EnrichmentStopped,
    IsbndbInputRefused,
    IsbndbNotFound,
    IsbndbRefused,
    IsbndbUndecodable,
)
from enrichment.gateway.asking import ask
from enrichment.gateway.listings import Listing, listing_of, raw_page_of
from enrichment.models import AuthorMiss
from enrichment.selectors.books import is_missed_author
from enrichment.selectors.isbndb import raw_books
from enrichment.services.enrich import enrich_isbns
from quota.spending import spending

log = structlog.get_logger(__name__)

SOURCE = "isbndb interface"
"""In the journal, of every request to ISBNdb that comes from here."""

BAD_INPUT = {400, 422}
"""With these statuses, ISBNdb says that a parameter is wrong. Those of a page come from the caller."""


@dataclass(frozen=True)
class Books:
    """`raw`: what ISBNdb sent of each book, in the order in which they were asked for. `api_calls`: calls spent."""

    raw: list[msgspec.Raw]
    unknown: set[str]
    """The ISBN-13s that ISBNdb does not know, now or when it was last asked."""
    api_calls: int


@dataclass(frozen=True)
class ListedPage:
    """A page of a listing: its members as ISBNdb sent them. `api_calls`: calls spent, including retries."""

    members: dict[str, msgspec.Raw] = field(default_factory=dict)
    api_calls: int = 0


def get_books(isbns: Sequence[str], *, consumer: str, operation: str) -> Books:
    """The books of different ISBN-13s, without those that ISBNdb does not know.

    Fresh editions and remembered misses cost no call; ISBNdb is asked for the others, and they are stored. A book that
    could not be stored is missing too, and in the log. Raises EnrichmentStopped like `enrich_isbns`.
    """
    result = enrich_isbns(isbns, consumer=consumer, operation=operation, source=SOURCE)
    for failed in result.errors:
        log.warning("isbndb_interface.not_stored", isbn=failed.isbn, error=failed.error)
    unknown = {*result.not_found_isbns}
    stored = raw_books([isbn for isbn in isbns if isbn not in unknown])
    return Books([stored[isbn] for isbn in isbns if isbn in stored], unknown, result.api_calls)


def get_book(isbn: str, *, consumer: str, operation: str) -> Books:
    """One book. Raises EnrichmentStopped like `get_books`, and with IsbndbNotFound if ISBNdb does not know the book."""
    found = get_books([isbn], consumer=consumer, operation=operation)
    if found.raw:
        return found
    if isbn in found.unknown:
        raise EnrichmentStopped(found, IsbndbNotFound(f"ISBNdb does not know {isbn}."))
    raise EnrichmentStopped(found, IsbndbUndecodable(f"ISBNdb's book {isbn} could not be stored. The log says why."))


def get_page(listing: Listing, *, consumer: str, operation: str) -> ListedPage:
    """The page of the listing that its parameters name, as ISBNdb sends it. Its books are stored.

    Raises EnrichmentStopped with a ListedPage and one of ENDINGS.
    """
    with spending(consumer=consumer, operation=operation, calls=0, source=SOURCE) as spender:
        try:
            page = ask(raw_page_of(listing, spender))
        except ENDINGS as error:
            why = error
            if isinstance(error, IsbndbRefused) and error.status in BAD_INPUT:
                why = IsbndbInputRefused(str(error), status=error.status)
            raise EnrichmentStopped(ListedPage(api_calls=spender.calls_spent), why) from error
        with _answered_even_if_not_stored():
            _store(page.answer)
    return ListedPage(page.members, spender.calls_spent)


def get_author_page(name: str, parameters: Mapping[str, str], *, consumer: str, operation: str) -> ListedPage:
    """A page of an author's books, like `get_page`. An author that is remembered as unknown costs no call."""
    if is_missed_author(name):
        raise EnrichmentStopped(ListedPage(), IsbndbNotFound(f"ISBNdb does not know the author {name!r}."))
    try:
        page = get_page(listing_of("author", name, parameters), consumer=consumer, operation=operation)
    except EnrichmentStopped as stopped:
        is_whole = parameters.keys() <= {"page", "pageSize"} and parameters.get("page", "1") == "1"
        if isinstance(stopped.reason, IsbndbNotFound) and is_whole:  # otherwise a filter can be the reason
            with _answered_even_if_not_stored():
                remember_author_miss(name)
        raise
    with _answered_even_if_not_stored():
        AuthorMiss.objects.filter(pk=name).delete()
    return page


def _store(answer: Answer) -> None:
    for bad in answer.bad:
        log.warning("isbndb_interface.bad_book", isbn=bad.isbn, error=bad.error)
    for failed in store_or_put_aside(answer, lambda: store_books(answer.books)).errors:
        log.warning("isbndb_interface.not_stored", isbn=failed.isbn, error=failed.error)


@contextmanager
def _answered_even_if_not_stored() -> Iterator[None]:
    """ISBNdb's answer is paid for, so it is passed on even if the database cannot take it now."""
    try:
        yield
    except OUT_OF_REACH:
        log.exception("isbndb_interface.database_out_of_reach")
