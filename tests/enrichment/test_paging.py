"""The pages of a listing: whatever comes back in whatever order, each available book is fetched once."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from random import Random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from enrichment.gateway.listings import MAX_RESULTS, PAGE_SIZE
from enrichment.services.paging import Page, Pages

TOTALS: dict[str, Callable[[int, int], int | None]] = {
    "right": lambda size, items: size,
    "none": lambda size, items: None,
    "too high": lambda size, items: size + 1500,
    "of the page": lambda size, items: items,
    "nonsense": lambda size, items: -1,
}
WITHOUT_TOTAL = ("none", "nonsense", "of the page")
SIZES = st.integers(0, 12_500) | st.sampled_from([0, 125, 500, 999, 1000, 1001, 2000, 3000, 10_000, 10_001])


@dataclass
class Provider:
    """ISBNdb's listing of `size` books. It answers what is under way in a random order, and fails at random."""

    size: int
    total: str
    largest_page: int
    random: Random
    failures: float = 0.0
    calls: int = 0
    """Without those that failed."""
    largest_number: int = 0
    """Of pages under way."""
    given: list[tuple[int, int]] = field(default_factory=list)
    """For each page with books: the first book, and the book after the last."""

    def answer_all(self, pages: Pages) -> None:
        """Until nothing is left to ask for and under way."""
        while True:
            while (self.random.random() < 0.7 or not pages.under_way) and pages.next():
                pass
            self.largest_number = max(self.largest_number, len(pages.under_way))
            if not pages.under_way:
                return
            self.answer(pages, self.random.choice(pages.under_way))

    def answer(self, pages: Pages, page: Page) -> None:
        if self.random.random() < self.failures:
            pages.fail(page)
            return
        self.calls += 1
        if page.size > self.largest_page:
            pages.too_large(page)
            return
        end = min(page.offset + page.size, self.size, MAX_RESULTS)
        if page.offset < end:
            self.given.append((page.offset, end))
        items = max(0, end - page.offset)
        pages.answered(page, items=items, total=TOTALS[self.total](self.size, items))


def resumed(pages: Pages, **bounds: int) -> Pages:
    """As a later run reads them."""
    return Pages.from_json(json.loads(json.dumps(pages.as_json())), **bounds)


@hypothesis_settings(max_examples=400)
@given(
    size=SIZES,
    total=st.sampled_from(sorted(TOTALS)),
    largest_page=st.sampled_from([1000, 500, 250, 125]),
    failures=st.sampled_from([0.0, 0.0, 0.1, 0.5]),
    start_page=st.integers(1, 10),
    max_pages=st.integers(1, 10),
    seed=st.integers(0, 10_000),
)
@pytest.mark.slow
def test_every_available_book_is_fetched_once_in_any_order_of_answers(
    size: int, total: str, largest_page: int, failures: float, start_page: int, max_pages: int, seed: int
) -> None:
    provider = Provider(size, total, largest_page, Random(seed), failures)
    bounds = {"start_page": start_page, "max_pages": max_pages}
    pages = Pages.begin(**bounds)
    runs = 0
    while not pages.is_complete:
        needed, before = pages.calls_needed, provider.calls
        provider.answer_all(pages)
        if largest_page == PAGE_SIZE:
            assert provider.calls - before <= needed, "no more than what was reserved"
        if provider.random.random() < 0.5:
            provider.failures = 0.0
        pages = resumed(pages, **bounds)
        runs += 1
        assert runs < 200

    start, limit = (start_page - 1) * PAGE_SIZE, min((start_page - 1 + max_pages) * PAGE_SIZE, MAX_RESULTS)
    end = min(size, limit)
    given = sorted(provider.given)
    assert [first for first, _ in given] == [start, *(after for _, after in given[:-1])][: len(given)]
    assert (given[-1][1] if given else start) == max(start, end)
    if total == "right" and (size > limit or size - start != PAGE_SIZE):
        assert pages.has_more == (start < size > limit)
    assert pages.calls_needed == 0


@hypothesis_settings(max_examples=300)
@given(size=SIZES, total=st.sampled_from(sorted(TOTALS)), seed=st.integers(0, 10_000))
@pytest.mark.slow
def test_no_page_is_asked_for_in_vain_but_one_in_four_where_no_total_is_known(size: int, total: str, seed: int) -> None:
    provider = Provider(size, total, PAGE_SIZE, Random(seed))
    provider.answer_all(Pages.begin(start_page=1, max_pages=10))
    reached = min(size, MAX_RESULTS)
    if total == "right":  # that a full first page is the last one is not believed
        assert provider.calls == max(1, ceil(reached / PAGE_SIZE)) + (size == PAGE_SIZE)
    if total in WITHOUT_TOTAL:
        needed = min(10, reached // PAGE_SIZE + 1)
        assert provider.calls - needed <= (0 if needed < 3 else 1)
        assert 4 * (provider.calls - needed) <= provider.calls
        assert provider.largest_number <= 2


def test_after_the_first_page_all_others_are_under_way_at_once() -> None:
    pages = Pages.begin(start_page=1, max_pages=10)
    first = pages.next()
    assert first == Page(0)
    assert pages.next() is None, "nothing is known yet"
    pages.answered(first, items=1000, total=4200)
    assert [pages.next() for _ in range(5)] == [Page(1000), Page(2000), Page(3000), Page(4000), None]
    assert pages.calls_needed == 4, "those under way are not here yet"


def test_without_a_total_as_many_pages_are_ahead_as_have_come_full_and_at_most_two() -> None:
    pages = Pages.begin(start_page=1, max_pages=10)
    for ahead in (1, 1, 2, 2):
        asked = [page for page in (pages.next(), pages.next(), pages.next()) if page]
        assert len(pages.under_way) == ahead
        pages.answered(asked[0] if ahead == 1 else pages.under_way[0], items=1000, total=None)


def test_a_page_that_is_not_full_ends_a_listing_without_a_total_and_a_total_below_what_has_come_is_none() -> None:
    pages = Pages.begin(start_page=1, max_pages=10)
    for items, total in ((1000, 10), (999, 1500)):
        page = pages.next()
        assert page
        pages.answered(page, items=items, total=total)
    assert pages.total is None
    assert pages.is_complete


def test_a_page_that_repeats_what_has_come_is_the_end_and_those_under_way_still_come() -> None:
    pages = Pages.begin(start_page=1, max_pages=10)
    first = pages.next()
    assert first
    pages.answered(first, items=1000, total=10_000)
    second, third, fourth, fifth = (pages.next() for _ in range(4))
    assert second
    assert third
    assert fourth
    assert fifth
    pages.answered(fourth, items=1000, total=10_000, repeats=True)
    assert (pages.next(), pages.under_way, pages.calls_needed) == (None, [second, third, fifth], 3)
    pages.answered(fifth, items=1000, total=10_000, repeats=True)
    pages.answered(third, items=1000, total=10_000)
    assert (pages.under_way, pages.is_complete) == ([second], False)
    pages.answered(second, items=1000, total=10_000)
    assert (pages.is_complete, pages.has_more) == (True, False)


@pytest.mark.parametrize(("failures", "calls"), [(0, 10), (1, 12), (2, 14), (3, 16)])
def test_temporary_failures_do_not_keep_pages_small(failures: int, calls: int) -> None:
    pages = Pages.begin(start_page=1, max_pages=10)
    needed: list[int] = []
    while page := pages.next():
        needed.append(pages.calls_needed)
        if len(needed) <= failures:
            pages.too_large(page)
        else:
            pages.answered(page, items=page.size, total=10_000)
    assert len(needed) == calls
    assert needed[failures:] == list(range(calls - failures, 0, -1)), "exactly the needed calls are reserved"


def test_a_page_that_failed_small_is_asked_for_as_a_whole_by_the_next_run_after_the_others() -> None:
    pages = Pages.begin(start_page=1, max_pages=2)
    first = pages.next()
    assert first
    pages.answered(first, items=1000, total=2000)
    while page := pages.next():
        if page.size == 125:
            pages.fail(page)
            break
        pages.too_large(page)
    assert pages.missing == [Page(1000)]
    assert resumed(pages, start_page=1, max_pages=2).next() == Page(1000)


def test_a_page_too_large_stays_in_halves_for_the_next_run() -> None:
    pages = Pages.begin(start_page=1, max_pages=2)
    first = pages.next()
    assert first
    pages.too_large(first)
    assert resumed(pages, start_page=1, max_pages=2).missing == [Page(0, 500), Page(500, 500)]


def test_a_page_that_fails_again_and_again_does_not_hide_those_after_it() -> None:
    pages = Pages.begin(start_page=1, max_pages=10)
    for offset in (0, 1000):
        page = pages.next()
        assert page == Page(offset)
        pages.fail(page)
    pages = resumed(pages, start_page=1, max_pages=10)
    page = pages.next()
    assert page == Page(2000), "the failed ones come last"
    pages.fail(page)
    page = pages.next()
    assert page == Page(3000), "also if there is no other but those that are not known"
    pages.answered(page, items=1000, total=5000)
    assert [pages.next() for _ in range(4)] == [Page(4000), Page(0), Page(1000), None]
    assert pages.missing[-1] == Page(2000)


def test_after_a_single_failure_of_the_first_page_the_next_run_asks_for_nothing_else() -> None:
    pages = Pages.begin(start_page=2, max_pages=10)
    first = pages.next()
    assert first == Page(1000)
    pages.fail(first)
    pages = resumed(pages, start_page=2, max_pages=10)
    assert [pages.next(), pages.next()] == [first, None]


@given(st.integers(0, 79), st.sampled_from([125, 250, 500, 1000]))
def test_two_twins_are_the_halves_of_a_page(number: int, size: int) -> None:
    page = Page(number * size, size)
    assert page.twin.twin == page
    whole = Page(min(page.offset, page.twin.offset), 2 * size)
    assert whole.halves == sorted((page, page.twin))
    assert page.number == number + 1
