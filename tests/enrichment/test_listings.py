"""Walking listings: whatever is under way and whatever stops a walk, each available book is fetched once."""

import json
from dataclasses import dataclass, field
from datetime import date
from math import ceil
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from enrichment.books.decoding import Answer, BadBook
from enrichment.exceptions import IsbndbError, IsbndbNotFound, IsbndbPageTooLarge, IsbndbUndecodable
from enrichment.gateway.listings import MAX_RESULTS, PAGE_SIZE, Listing
from enrichment.gateway.questions import Exchanged, Question
from enrichment.services.listings import Progress, Walk
from enrichment.services.releases import Wanted, read_token, resume_token
from quota.spending import Spender

WANTED = Wanted(date(2026, 1, 1), date(2026, 3, 1), 10, subjects=("a", "b"))
PAYER = Spender("reader", "test", 0)


@dataclass
class Provider:
    """ISBNdb without real books. `sizes`: the number of books in each listing, in random order of answers."""

    sizes: list[int]
    tells_total: bool
    largest_page: int
    ends_with_404: bool
    failures: float
    random: Random
    calls: int = 0
    given: list[tuple[int, int, int]] = field(default_factory=list)
    """For each page with books: the listing, the first book, and the book after the last."""

    def answer(self, question: Question[Answer]) -> Exchanged[Answer]:
        def exchanged(answer: Answer | None = None, failure: IsbndbError | None = None) -> Exchanged[Answer]:
            return Exchanged(question, call=None, answer=answer, failure=failure)  # type: ignore[arg-type]

        if self.random.random() < self.failures:
            return exchanged(failure=IsbndbUndecodable())
        self.calls += 1
        url = question.request.url
        number, page, size = (int(text) for text in (url.path[1:], url.params["page"], url.params["pageSize"]))
        if size > self.largest_page:
            return exchanged(failure=IsbndbPageTooLarge())
        start, end = (page - 1) * size, min(page * size, self.sizes[number], MAX_RESULTS)
        if start >= end and self.ends_with_404:
            return exchanged(failure=IsbndbNotFound())
        if start < end:
            self.given.append((number, start, end))
        total = self.sizes[number] if self.tells_total else None
        return exchanged(Answer(books=[], bad=[], total=total, items=max(0, end - start)))


@hypothesis_settings(max_examples=200)
@given(
    sizes=st.lists(
        st.integers(0, 12_500) | st.sampled_from([0, 125, 500, 999, 1000, 1001, 2000, 10_000, 10_001]),
        min_size=1,
        max_size=4,
    ),
    tells_total=st.booleans(),
    largest_page=st.sampled_from([1000, 500, 250, 125]),
    ends_with_404=st.booleans(),
    failures=st.sampled_from([0.0, 0.0, 0.3]),
    patience=st.integers(1, 100),
    max_pages=st.integers(1, 10),
    seed=st.integers(0, 10_000),
)
@pytest.mark.slow
def test_every_available_book_is_fetched_once_however_often_the_walk_stops(
    sizes: list[int],
    tells_total: bool,
    largest_page: int,
    ends_with_404: bool,
    failures: float,
    patience: int,
    max_pages: int,
    seed: int,
) -> None:
    provider = Provider(sizes, tells_total, largest_page, ends_with_404, failures, Random(seed))
    wanted = [Listing(f"/{number}") for number in range(len(sizes))]
    progress = Progress()
    walk = Walk(wanted, max_pages=max_pages, progress=progress)
    calls_reserved = walk.calls_needed
    while not walk.is_complete:
        questions: list[Question[Answer]] = []
        for _ in range(patience):  # then it is stopped, and what is under way is lost
            while len(questions) < 16 and (question := walk.next_question(PAYER)):
                questions.append(question)
            assert walk.under_way == len(questions)
            if not questions:
                break
            questions.remove(question := provider.random.choice(questions))
            with patch.object(Progress, "store"):
                walk.take(provider.answer(question))
        place = read_token(resume_token(WANTED, walk.place, consumer="reader"), consumer="reader")[1]
        walk = Walk(wanted, max_pages=max_pages, place=place, progress=progress)
        provider.failures = 0.0 if provider.random.random() < 0.3 else provider.failures

    ends = [min(size, max_pages * PAGE_SIZE, MAX_RESULTS) for size in sizes]
    for number, end in enumerate(ends):
        pages = sorted((start, stop) for listing, start, stop in provider.given if listing == number)
        assert [start for start, _ in pages] == [0, *(stop for _, stop in pages[:-1])][: len(pages)]
        assert (pages[-1][1] if pages else 0) == end
    assert sorted(progress.unknown) == [number for number, size in enumerate(sizes) if not size]
    # Without a total, another page can follow a full last page.
    told = [tells_total and not size == PAGE_SIZE == largest_page for size in sizes]
    goes_on = [
        end and (size > end or (not tells and size == end)) for size, end, tells in zip(sizes, ends, told, strict=True)
    ]
    at_the_end = [number for number, more in enumerate(goes_on) if more and ends[number] == MAX_RESULTS]
    if tells_total:
        assert sorted(progress.beyond_reach) == at_the_end
        assert progress.cut == {
            number: end
            for number, end in enumerate(ends)
            if goes_on[number] and end == max_pages * PAGE_SIZE and number not in at_the_end
        }
    if tells_total and largest_page == PAGE_SIZE and not failures:
        # That a full first page is the last one is not believed.
        pages_needed = sum(
            max(1, ceil(end / PAGE_SIZE)) + (size == PAGE_SIZE < max_pages * PAGE_SIZE)
            for size, end in zip(sizes, ends, strict=True)
        )
        assert provider.calls == pages_needed <= calls_reserved


@pytest.mark.parametrize("total", [10_000, None])
@pytest.mark.parametrize("shown", ["the last page", "the first page", "a mix of all pages"])
@pytest.mark.parametrize("at_once", [1, 2, 4])
@pytest.mark.parametrize("resumes", [False, True])
def test_pages_that_repeat_end_a_listing_and_their_books_count_once(
    total: int | None, shown: str, at_once: int, resumes: bool
) -> None:
    """ISBNdb has three pages, and shows one of them again, or books of all of them, for each page after these."""
    isbns = [f"{number:05}" for number in range(3 * PAGE_SIZE)]
    after = {"the last page": isbns[-PAGE_SIZE:], "the first page": isbns[:PAGE_SIZE], "a mix of all pages": isbns[::3]}
    listing, random, calls, found = [Listing("/0")], Random(at_once), 0, list[str]()
    walk = Walk(listing, max_pages=10)
    questions: list[Question[Answer]] = []
    with patch.object(Progress, "store", lambda _, answer, **__: found.extend(book.isbn for book in answer.bad)):
        while not walk.is_complete:
            while len(questions) < at_once and (question := walk.next_question(PAYER)):
                questions.append(question)
            questions.remove(question := random.choice(questions))
            number, calls = int(question.request.url.params["page"]), calls + 1
            shown_isbns = isbns[(number - 1) * PAGE_SIZE : number * PAGE_SIZE] if number < 4 else after[shown]
            page = Answer([], [BadBook(isbn, "") for isbn in shown_isbns], total, items=PAGE_SIZE)
            walk.take(Exchanged(question, None, answer=page))  # type: ignore[arg-type]
            if resumes and not questions and shown != "a mix of all pages":  # single books are not saved
                walk = Walk(listing, max_pages=10, place=json.loads(json.dumps(walk.place)))
    assert sorted(found) == isbns
    assert calls <= 3 + at_once
    assert not walk.progress.cut
    assert not walk.progress.beyond_reach


def test_the_first_pages_of_several_listings_are_under_way_together_in_their_order() -> None:
    walk = Walk([Listing("/0"), Listing("/1"), Listing("/2")], max_pages=10)
    first, second = walk.next_question(PAYER), walk.next_question(PAYER)
    assert first
    assert second
    assert [question.request.url.path for question in (first, second)] == ["/0", "/1"]
    assert (walk.pages_known, walk.calls_needed) == (3, 30)
    with patch.object(Progress, "store"):
        walk.take(Exchanged(first, None, answer=Answer([], [], total=2500, items=1000)))  # type: ignore[arg-type]
    following = [walk.next_question(PAYER) for _ in range(4)]
    assert [question and question.request.url.path for question in following] == ["/0", "/0", "/2", None]
    assert (walk.pages_known, walk.calls_needed) == (4, 22)


def test_a_failed_page_is_missing_and_does_not_stop_the_others() -> None:
    walk = Walk([Listing("/0"), Listing("/1")], max_pages=1)
    first, second = walk.next_question(PAYER), walk.next_question(PAYER)
    assert first
    assert second
    failure = IsbndbUndecodable("x")
    assert walk.take(Exchanged(first, None, failure=failure)) is failure  # type: ignore[arg-type]
    with patch.object(Progress, "store"):
        walk.take(Exchanged(second, None, answer=Answer([], [], total=10, items=10)))  # type: ignore[arg-type]
    assert walk.failure is failure
    assert [walk.is_done(number) for number in range(2)] == [False, True]
    assert walk.next_question(PAYER) is None
    again = Walk([Listing("/0"), Listing("/1")], max_pages=1, place=walk.place).next_question(PAYER)
    assert again
    assert again.request.url.path == "/0"
