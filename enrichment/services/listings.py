"""Fetches and stores ISBNdb's listings page by page. A run can stop after any page and continue later."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf
from typing import Any

from enrichment import selectors
from enrichment.books.decoding import Answer
from enrichment.books.storage import store_books
from enrichment.exceptions import IsbndbError, IsbndbNotFound, IsbndbPageTooLarge
from enrichment.gateway.listings import MAX_RESULTS, PAGE_SIZE, Listing, fetch_page
from enrichment.gateway.questions import MIN_PAGE_SIZE
from enrichment.services.enrich import FailedIsbn
from quota.spending import Spender


@dataclass(frozen=True)
class Position:
    """Where to continue: the listing (from 0), the number of its books before the next page, and the page size.

    `total`: the number of books in the listing, once ISBNdb has sent it.
    """

    listing: int = 0
    offset: int = 0
    page_size: int = PAGE_SIZE
    total: int | None = None


@dataclass
class Progress:
    """The result of some listings so far. books_found = already_existed + new books."""

    position: Position = Position()
    books_found: int = 0
    """Usable books on the pages."""
    already_existed: int = 0
    """Of these, books that were stored before."""
    enriched: int = 0
    """Of these, books that are stored now: created, updated or unchanged."""
    failed: int = 0
    pages_fetched: int = 0
    api_calls: int = 0
    """Calls spent, including retries."""
    unknown: list[int] = field(default_factory=list)
    """Listings that ISBNdb does not know."""
    cut: dict[int, int] = field(default_factory=dict)
    """Listings with more pages than were asked for, and the number of books before the first of these pages."""
    beyond_reach: list[int] = field(default_factory=list)
    """Listings with more books than the 10,000 that ISBNdb gives."""
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
    def has_answer(self) -> bool:
        """Whether ISBNdb has answered at least once, also that it does not know a listing."""
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
    """Fetches and stores page after page until nothing is left. Raises what `fetch_next` raises.

    After `until` (monotonic clock) it starts no page except the first.

    Before each page except the first, it releases the calls that are no longer needed. When halved pages need more
    calls than are reserved, each dispatch reserves its own.
    """
    while needed := calls_needed(listings, progress, max_pages=max_pages):
        if spender.reservation is not None:
            if time.monotonic() > until:
                return
            spender.release_beyond(needed)
        fetch_next(listings, progress, spender, max_pages=max_pages, skip_existing=skip_existing)


def calls_needed(listings: Sequence[Listing], progress: Progress, *, max_pages: int) -> int:
    """The maximum number of calls for the rest, given the known totals, without retries."""
    position = progress.position
    if position.listing >= len(listings):
        return 0
    end = max(position.offset + 1, _end(position, max_pages))
    pages = 0
    while position.offset < end:
        position = _next_page(position)
        pages += 1
    return pages + (len(listings) - position.listing - 1) * max_pages


def fetch_next(
    listings: Sequence[Listing], progress: Progress, spender: Spender, *, max_pages: int, skip_existing: bool
) -> None:
    """Fetches and stores the next page, and updates `progress`. Call it only while `calls_needed` is not 0.

    It reads at most `max_pages` pages of 1,000 books of a listing. With `skip_existing`, fresh editions stay unchanged.
    When a page is too large for ISBNdb, its call is spent and the next request asks for half of it. Pages grow again
    after both halves have come, because ISBNdb does not say whether the size was the cause. Without a total, a full
    page means that another page can follow.

    Raises an IsbndbError, or what `Spender.dispatch` raises. Then only two things change in `progress`: its calls, and
    the page size, which is reset, because ISBNdb failed for a small page too.
    """
    position = progress.position
    before = spender.calls_spent
    try:
        answer = fetch_page(
            listings[position.listing],
            spender,
            page=position.offset // position.page_size + 1,
            page_size=position.page_size,
        )
    except IsbndbNotFound:
        if not position.offset:  # otherwise it is the page after the last
            progress.unknown.append(position.listing)
        progress.position = Position(position.listing + 1)
        return
    except IsbndbPageTooLarge:
        progress.position = replace(position, page_size=position.page_size // 2)
        return
    except IsbndbError:
        progress.position = replace(position, page_size=position_at(position.offset).page_size)
        raise
    finally:
        progress.api_calls += spender.calls_spent - before
    _store(answer, progress, skip_existing=skip_existing)
    if not answer.items and not answer.total and not position.offset:
        progress.unknown.append(position.listing)
    progress.position = _after(position, answer, progress, max_pages)


def position_at(offset: int, *, listing: int = 0) -> Position:
    """The position after `offset` books, with the largest page size that divides `offset`."""
    size = PAGE_SIZE
    while offset % size and size > MIN_PAGE_SIZE:
        size //= 2
    return Position(listing, offset - offset % size, size)


def step_over(position: Position, *, max_pages: int) -> Position:
    """The position after the page at `position`, which is skipped."""
    following = _next_page(position)
    return following if following.offset < _end(following, max_pages) else Position(position.listing + 1)


def _next_page(position: Position) -> Position:
    """The position after a page. The next page is twice as large where a page of that size can begin."""
    offset = position.offset + position.page_size
    twice = 2 * position.page_size
    grows = twice <= PAGE_SIZE and offset % twice == 0
    return replace(position, offset=offset, page_size=twice if grows else position.page_size)


def _after(position: Position, answer: Answer, progress: Progress, max_pages: int) -> Position:
    following = replace(_next_page(position), total=answer.total)
    goes_on = answer.items > 0 if answer.total is not None else answer.items >= position.page_size
    if goes_on and following.offset < _end(following, max_pages):
        return following
    more = goes_on and (answer.total is None or following.offset < answer.total)
    if more and following.offset < MAX_RESULTS:
        progress.cut[position.listing] = following.offset
    elif more:
        progress.beyond_reach.append(position.listing)
    return Position(position.listing + 1)


def _end(position: Position, max_pages: int) -> int:
    """The number of books after which we stop reading the listing."""
    end = min(max_pages * PAGE_SIZE, MAX_RESULTS)
    return end if position.total is None else min(end, position.total)


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
