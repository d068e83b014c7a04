"""Paging: for every provider and every interruption, each available book is fetched once."""

from dataclasses import dataclass, field
from datetime import date
from math import ceil
from unittest.mock import patch
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from enrichment.books.decoding import Answer
from enrichment.exceptions import IsbndbNotFound, IsbndbPageTooLarge
from enrichment.gateway.listings import MAX_RESULTS, PAGE_SIZE, Listing
from enrichment.gateway.questions import MIN_PAGE_SIZE
from enrichment.services import listings
from enrichment.services.listings import Position, Progress, calls_needed, fetch_next, position_at, walk
from enrichment.services.releases import Wanted, read_token, resume_token
from quota.exceptions import QuotaRefused
from quota.spending import Spender

WANTED = Wanted(date(2026, 1, 1), date(2026, 3, 1), 10, subjects=("a", "b"))


class Purse(Spender):
    """A spender without a quota."""

    def release_beyond(self, calls: int) -> None:
        self.left = min(self.left, calls)


@dataclass
class Provider:
    """ISBNdb without real books. `sizes`: the number of books in each listing. `refused`: numbers of refused calls.

    `keeps_back`: the number of books on each page that are counted but not sent. `failures`: the number of pages that
    fail at first, at any size.
    """

    sizes: list[int]
    tells_total: bool
    largest_page: int
    ends_with_404: bool
    refused: set[int]
    keeps_back: int = 0
    failures: int = 0
    calls: int = 0
    given: list[tuple[int, int, int]] = field(default_factory=list)
    """For each page with books: the listing, the first book, and the book after the last."""

    def fetch_page(self, listing: Listing, spender: Spender, *, page: int, page_size: int) -> Answer:
        self.calls += 1
        if self.calls in self.refused:
            raise QuotaRefused(limit="day_closed", asked=1, free=0, retry_at=None)
        spender.left = max(0, spender.left - 1)  # a dispatch reserves what is missing
        if page_size > self.largest_page or self.calls <= self.failures:
            raise IsbndbPageTooLarge
        number = int(listing.path)
        start, end = (page - 1) * page_size, min(page * page_size, self.sizes[number], MAX_RESULTS)
        if start >= end and self.ends_with_404:
            raise IsbndbNotFound
        if start < end:
            self.given.append((number, start, end))
        total = self.sizes[number] if self.tells_total else None
        return Answer(books=[], bad=[], total=total, items=max(0, end - start - self.keeps_back))


def expected_end(size: int, max_pages: int) -> int:
    return min(size, max_pages * PAGE_SIZE, MAX_RESULTS)


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    sizes=st.lists(
        st.integers(0, 12_500) | st.sampled_from([0, 125, 500, 999, 1000, 1001, 2000, 10_000, 10_001]),
        min_size=1,
        max_size=4,
    ),
    tells_total=st.booleans(),
    largest_page=st.sampled_from([1000, 500, 250, 125]),
    ends_with_404=st.booleans(),
    refused=st.sets(st.integers(2, 120), max_size=6),
    keeps_back=st.integers(0, 1),
    max_pages=st.integers(1, 10),
)
@pytest.mark.slow
def test_every_available_book_is_fetched_once_however_often_the_run_stops(
    sizes: list[int],
    tells_total: bool,
    largest_page: int,
    ends_with_404: bool,
    refused: set[int],
    keeps_back: int,
    max_pages: int,
) -> None:
    # Without a total, a page that is not full ends the listing.
    provider = Provider(sizes, tells_total, largest_page, ends_with_404, refused, keeps_back if tells_total else 0)
    wanted = [Listing(str(number)) for number in range(len(sizes))]
    position, set_aside = Position(), None
    unknown: list[int] = []
    cut: dict[int, int] = {}
    beyond_reach: list[int] = []
    with patch.object(listings, "fetch_page", provider.fetch_page):
        while position.listing < len(wanted):
            progress = Progress(position)
            calls = calls_needed(wanted, progress, max_pages=max_pages)
            purse = Purse("reader", "test", calls, reservation=UUID(int=0), left=calls)
            set_aside = set_aside or calls
            try:
                with patch.object(listings, "_store"):
                    walk(wanted, progress, purse, max_pages=max_pages, skip_existing=True)
            except QuotaRefused:
                pass
            unknown += progress.unknown
            cut |= progress.cut
            beyond_reach += progress.beyond_reach
            position = read_token(resume_token(WANTED, progress.position))[1]

    ends = [expected_end(size, max_pages) for size in sizes]
    for number, end in enumerate(ends):
        pages = [(start, stop) for listing, start, stop in provider.given if listing == number]
        assert [start for start, _ in pages] == [0, *(stop for _, stop in pages[:-1])][: len(pages)]
        assert (pages[-1][1] if pages else 0) == end
    assert unknown == [number for number, size in enumerate(sizes) if not size]
    # Without a total, another page can follow a full last page.
    goes_on = [end and (size > end or (not tells_total and size == end)) for size, end in zip(sizes, ends, strict=True)]
    at_the_end = [number for number, more in enumerate(goes_on) if more and ends[number] == MAX_RESULTS]
    assert beyond_reach == at_the_end
    assert cut == {
        number: end
        for number, end in enumerate(ends)
        if goes_on[number] and end == max_pages * PAGE_SIZE and number not in at_the_end
    }
    if tells_total and largest_page == PAGE_SIZE:
        pages_needed = sum(max(1, ceil(end / PAGE_SIZE)) for end in ends)
        assert provider.calls - len([call for call in refused if call <= provider.calls]) == pages_needed
        assert set_aside is not None
        assert set_aside >= pages_needed


@pytest.mark.parametrize(("failures", "calls"), [(0, 10), (1, 12), (2, 14), (3, 16)])
def test_temporary_failures_do_not_keep_pages_small(failures: int, calls: int) -> None:
    provider = Provider([10_000], True, PAGE_SIZE, ends_with_404=False, refused=set(), failures=failures)
    purse = Purse("reader", "test", 10, reservation=UUID(int=0), left=10)
    progress, wanted = Progress(), [Listing("0")]
    needed: list[int] = []
    with patch.object(listings, "fetch_page", provider.fetch_page), patch.object(listings, "_store"):
        while left := calls_needed(wanted, progress, max_pages=10):
            needed.append(left)
            purse.release_beyond(left)
            fetch_next(wanted, progress, purse, max_pages=10, skip_existing=True)
    assert provider.calls == calls
    assert needed[failures:] == list(range(calls - failures, 0, -1)), "exactly the needed calls are reserved"


@given(st.integers(0, 80))
def test_a_position_is_always_at_the_start_of_a_page(pages: int) -> None:
    offset = pages * MIN_PAGE_SIZE
    position = position_at(offset, listing=3)
    assert (position.listing, position.offset) == (3, offset)
    assert offset % position.page_size == 0
    assert position.page_size == PAGE_SIZE or offset % (2 * position.page_size)
