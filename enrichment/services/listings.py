"""Lists of books that ISBNdb gives page by page: fetched and stored page after page, any of which may be the last."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf
from typing import Any

from enrichment import selectors
from enrichment.books.decoding import Answer
from enrichment.books.storage import store_books
from enrichment.exceptions import IsbndbError, IsbndbNotFound, IsbndbPageTooLarge
from enrichment.gateway.client import MIN_PAGE_SIZE
from enrichment.gateway.listings import MAX_RESULTS, PAGE_SIZE, Listing, fetch_page
from enrichment.services.enrich import FailedIsbn
from quota.spending import Spender


@dataclass(frozen=True)
class Position:
    """Where to go on: in which listing (from 0), after how many of its books, with which page size.

    `total`: how many books the listing has, once ISBNdb has said so.
    """

    listing: int = 0
    offset: int = 0
    page_size: int = PAGE_SIZE
    total: int | None = None


@dataclass
class Progress:
    """What came of some listings until now. books_found = already_existed + new ones."""

    position: Position = Position()
    books_found: int = 0
    """Usable books in the pages."""
    already_existed: int = 0
    """Of these, stored before."""
    enriched: int = 0
    """Of these, stored now: created, updated, or the same as before."""
    failed: int = 0
    pages_fetched: int = 0
    api_calls: int = 0
    """Calls spent, retries included."""
    unknown: list[int] = field(default_factory=list)
    """Listings of which ISBNdb knows nothing."""
    cut: dict[int, int] = field(default_factory=dict)
    """Listings that go on beyond the pages that were asked for, and after how many books."""
    beyond_reach: list[int] = field(default_factory=list)
    """Listings with more books than the 10,000 that ISBNdb gives of any."""
    errors: list[FailedIsbn] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The figures as the API shows them."""
        return {
            "books_found": self.books_found,
            "already_existed": self.already_existed,
            "enriched": self.enriched,
            "failed": self.failed,
            "pages_fetched": self.pages_fetched,
            "api_calls": self.api_calls,
            "errors": [asdict(error) for error in self.errors],
        }

    @property
    def came_forward(self) -> bool:
        """Whether ISBNdb has told anything yet, be it that it knows nothing."""
        return bool(self.pages_fetched or self.unknown)


def walk(
    listings: Sequence[Listing],
    progress: Progress,
    spender: Spender,
    *,
    max_pages: int,
    skip_existing: bool,
    until: float = inf,
) -> None:
    """Fetches and stores page after page until nothing is left, as `fetch_next` does, and raises as it does.

    After `until`, of the monotonic clock, no page is begun but the first.

    What turns out not to be needed goes back before each page but the first. When halved pages take more calls than
    were set aside, each is set aside when it is its turn: the calls in hand are not refused for those that may follow.
    """
    while needed := calls_needed(listings, progress, max_pages=max_pages):
        if spender.reservation is not None:
            if time.monotonic() > until:
                return
            spender.need(min(needed, max(1, spender.left)))
        fetch_next(listings, progress, spender, max_pages=max_pages, skip_existing=skip_existing)


def calls_needed(listings: Sequence[Listing], progress: Progress, *, max_pages: int) -> int:
    """The most calls that the rest takes, with what is known of the totals; retries not included."""
    here = progress.position
    if here.listing >= len(listings):
        return 0
    end = max(here.offset + 1, _end(here, max_pages))
    pages = 0
    while here.offset < end:
        here = _next_page(here)
        pages += 1
    return pages + (len(listings) - here.listing - 1) * max_pages


def fetch_next(
    listings: Sequence[Listing], progress: Progress, spender: Spender, *, max_pages: int, skip_existing: bool
) -> None:
    """Fetches and stores the next page, and moves `progress` on; for as long as `calls_needed` is not 0.

    No listing is followed beyond `max_pages` pages of 1,000. With `skip_existing`, editions that are fresh stay as
    they are. A page that is too large for ISBNdb is halved: the call is spent, and the next one asks for less. As
    ISBNdb does not say whether it was the size, pages grow again as soon as halves have come. Without a total, a full
    page means that another may follow.

    Raises an IsbndbError, and what `Spender.dispatch` raises; `progress` is then as it was, but for its calls and for
    the size of the next page: when ISBNdb fails even for little, that was not the reason.
    """
    here = progress.position
    before = len(spender.dispatched)
    try:
        answer = fetch_page(
            listings[here.listing], spender, page=here.offset // here.page_size + 1, page_size=here.page_size
        )
    except IsbndbNotFound:
        if not here.offset:  # otherwise it is a page beyond the last
            progress.unknown.append(here.listing)
        progress.position = Position(here.listing + 1)
        return
    except IsbndbPageTooLarge:
        progress.position = replace(here, page_size=here.page_size // 2)
        return
    except IsbndbError:
        progress.position = replace(here, page_size=position_at(here.offset).page_size)
        raise
    finally:
        progress.api_calls += len(spender.dispatched) - before
    _store(answer, progress, skip_existing=skip_existing)
    if not answer.items and not answer.total and not here.offset:
        progress.unknown.append(here.listing)
    progress.position = _after(here, answer, progress, max_pages)


def position_at(offset: int, *, listing: int = 0) -> Position:
    """The position after `offset` books, with the largest page size that divides them."""
    size = PAGE_SIZE
    while offset % size and size > MIN_PAGE_SIZE:
        size //= 2
    return Position(listing, offset - offset % size, size)


def step_over(here: Position, *, max_pages: int) -> Position:
    """The position after the page at `here`, which is left out."""
    there = _next_page(here)
    return there if there.offset < _end(there, max_pages) else Position(here.listing + 1)


def _next_page(here: Position) -> Position:
    """The position after a page; the next is twice as large where such a page can begin."""
    offset = here.offset + here.page_size
    twice = 2 * here.page_size
    grows = twice <= PAGE_SIZE and offset % twice == 0
    return replace(here, offset=offset, page_size=twice if grows else here.page_size)


def _after(here: Position, answer: Answer, progress: Progress, max_pages: int) -> Position:
    there = replace(_next_page(here), total=answer.total)
    goes_on = answer.items > 0 if answer.total is not None else answer.items >= here.page_size
    if goes_on and there.offset < _end(there, max_pages):
        return there
    more = goes_on and (answer.total is None or there.offset < answer.total)
    if more and there.offset < MAX_RESULTS:
        progress.cut[here.listing] = there.offset
    elif more:
        progress.beyond_reach.append(here.listing)
    return Position(here.listing + 1)


def _end(here: Position, max_pages: int) -> int:
    """After how many books the listing ends for us."""
    end = min(max_pages * PAGE_SIZE, MAX_RESULTS)
    return end if here.total is None else min(end, here.total)


def _store(answer: Answer, progress: Progress, *, skip_existing: bool) -> None:
    isbns = [book.isbn13 for book in answer.books]
    stored_before = selectors.stored_isbns(isbns)
    skipped = selectors.fresh_isbns(isbns) if skip_existing else set()
    stored = store_books(book for book in answer.books if book.isbn13 not in skipped)
    progress.pages_fetched += 1
    progress.books_found += len(answer.books)
    progress.already_existed += len(stored_before)
    progress.enriched += stored.created + stored.updated + stored.unchanged
    progress.failed += len(answer.bad) + len(stored.errors)
    progress.errors += [FailedIsbn(book.isbn, book.error) for book in answer.bad]
    progress.errors += [FailedIsbn(error.isbn, error.error) for error in stored.errors]
