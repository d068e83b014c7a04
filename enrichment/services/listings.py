"""Walks through ISBNdb's listings with several pages under way, and stores their books. It can stop after any page."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, Self

from enrichment.books.aside import store_or_put_aside
from enrichment.books.decoding import Answer
from enrichment.books.storage import StoreResult, store_books
from enrichment.exceptions import IsbndbError, IsbndbNotFound, IsbndbPageTooLarge
from enrichment.gateway.asking import ask_each
from enrichment.gateway.listings import MAX_RESULTS, PAGE_SIZE, Listing, page_of
from enrichment.gateway.questions import Exchanged, Question
from enrichment.selectors.books import fresh_isbns, stored_isbns
from enrichment.services.enrich import FailedIsbn
from enrichment.services.paging import Page, Pages
from enrichment.services.repeats import Seen
from quota.spending import Payer, Spender


@dataclass
class Progress:
    """The result of some listings so far. books_found = new + changed + unchanged + already_fresh + failed.

    A book that a listing has on several pages counts once.
    """

    pages_fetched: int = 0
    already_existed: int = 0
    """Books that were stored before."""
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    """Stored before, and sent by ISBNdb as they are."""
    already_fresh: int = 0
    """Stored before, and left alone because they need no refresh."""
    failed: int = 0
    """Books that could not be read or stored; `errors` has the reasons."""
    api_calls: int = 0
    """Calls spent, including retries. Whoever pays sets it."""
    unknown: list[int] = field(default_factory=list)
    """Listings that ISBNdb does not know."""
    cut: dict[int, int] = field(default_factory=dict)
    """Listings with more pages than were asked for, and the number of books before the first of these pages."""
    beyond_reach: list[int] = field(default_factory=list)
    """Listings with more books than the 10,000 that ISBNdb gives."""
    errors: list[FailedIsbn] = field(default_factory=list)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        """The figures that `as_json` has saved."""
        parts = {
            "cut": {int(listing): offset for listing, offset in saved["cut"].items()},  # JSON has only strings as keys
            "errors": [FailedIsbn(**error) for error in saved["errors"]],
        }
        return cls(**saved | parts)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_dict(self) -> dict[str, Any]:
        """The figures as the API shows them."""
        return {
            "books_found": self.books_found,
            "new": self.new,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "already_fresh": self.already_fresh,
            "failed": self.failed,
            "already_existed": self.already_existed,
            "enriched": self.enriched,
            "pages_fetched": self.pages_fetched,
            "api_calls": self.api_calls,
            "errors": [asdict(error) for error in self.errors],
        }

    @property
    def books_found(self) -> int:
        return self.enriched + self.already_fresh + self.failed

    @property
    def enriched(self) -> int:
        """The books that are stored now."""
        return self.new + self.changed + self.unchanged

    @property
    def has_answer(self) -> bool:
        """Whether ISBNdb has answered at least once, also that it does not know a listing."""
        return bool(self.pages_fetched or self.unknown)

    def store(self, answer: Answer, *, skip_existing: bool) -> None:
        """Stores the books of a page and counts them. With `skip_existing`, fresh editions stay as they are."""

        def store() -> tuple[set[str], set[str], StoreResult]:
            isbns = [book.isbn13 for book in answer.books]
            stored_before = stored_isbns(isbns)
            fresh = fresh_isbns(isbns) if skip_existing else set()
            return stored_before, fresh, store_books(book for book in answer.books if book.isbn13 not in fresh)

        stored_before, fresh, stored = store_or_put_aside(answer, store)
        self.pages_fetched += 1
        self.already_existed += len(stored_before)
        self.new += stored.created
        self.changed += stored.updated
        self.unchanged += stored.unchanged
        self.already_fresh += len(fresh)
        self.failed += len(answer.bad) + len(stored.errors)
        self.errors += [FailedIsbn(book.isbn, book.error) for book in answer.bad]
        self.errors += [FailedIsbn(error.isbn, error.error) for error in stored.errors]


class Walk:
    """The pages of some listings, at most `max_pages` pages of 1,000 books of each, from `start_page`.

    It makes the questions for `ask_each`, the pages of the first listings first, and takes the answers in any order.
    Whatever ends it, `place` says which pages are missing, and a walk that begins there asks for exactly these.

    `skip_existing`: fresh editions stay as they are. `place`: where an earlier walk of the same listings ended.
    """

    def __init__(
        self,
        listings: Sequence[Listing],
        *,
        max_pages: int,
        skip_existing: bool = True,
        start_page: int = 1,
        place: dict[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.progress = progress or Progress()
        self.failure: IsbndbError | None = None
        """The first failure of a page. The page is still missing, but this walk does not ask for it again."""
        self._listings = listings
        self._max_pages, self._start_page = max_pages, start_page
        self._skip_existing = skip_existing
        saved = place or {"begun": 0, "open": {}}
        self._begun: int = saved["begun"]
        bounds = {"start_page": start_page, "max_pages": max_pages}
        self._open = {int(number): Pages.from_json(pages, **bounds) for number, pages in saved["open"].items()}
        """The listings before `_begun` that are not complete."""
        self._seen = {int(number): Seen(pages.get("came", ())) for number, pages in saved["open"].items()}
        """What has come of these listings."""
        self._asked: dict[Question[Answer], tuple[int, Page]] = {}

    @property
    def place(self) -> dict[str, Any]:
        """Where to continue, for JSON. Pages under way are missing."""
        return {
            "begun": self._begun,
            "open": {
                str(number): pages.as_json() | {"came": sorted(self._seen[number].pages)}
                for number, pages in self._open.items()
            },
        }

    @property
    def is_complete(self) -> bool:
        return not self._open and self._begun >= len(self._listings)

    @property
    def calls_needed(self) -> int:
        """The maximum number of calls for the rest, without retries, with the pages under way and those that failed."""
        untouched = len(self._listings) - self._begun
        if untouched:
            untouched *= Pages.begin(start_page=self._start_page, max_pages=self._max_pages).calls_needed
        return untouched + sum(pages.calls_needed for pages in self._open.values())

    @property
    def pages_known(self) -> int:
        """How many pages are known to be missing; 1 of a listing of which nothing is known."""
        return len(self._listings) - self._begun + sum(pages.calls_planned for pages in self._open.values())

    @property
    def under_way(self) -> int:
        """How many questions have not come back to `take`."""
        return len(self._asked)

    @property
    def next_page(self) -> int:
        """The first page of 1,000 books of the first listing that is missing, for a walk that is not complete."""
        first = self._open.get(0)
        return first.first_missing // PAGE_SIZE + 1 if first else self._start_page

    def is_done(self, listing: int) -> bool:
        """Whether no page of the listing is missing, by its number from 0."""
        return listing < self._begun and listing not in self._open

    def next_question(self, payer: Payer) -> Question[Answer] | None:
        """The next page to ask for; None when there is none now. After the next answer there may be one."""
        for number, pages in self._open.items():
            if page := pages.next():
                return self._question(number, page, payer)
        if self._begun == len(self._listings):
            return None
        number = self._begun
        self._open[number] = Pages.begin(start_page=self._start_page, max_pages=self._max_pages)
        self._seen[number] = Seen()
        self._begun += 1
        page = self._open[number].next()
        return self._question(number, page, payer) if page else None

    def take(self, exchanged: Exchanged[Answer]) -> IsbndbError | None:
        """Stores the books of a page that has come, and plans what to ask for next. A page without a new book ends its
        listing.

        Returns the failure if the page has failed: it is neither too large nor after the last one. It never raises for
        ISBNdb.
        """
        failed: IsbndbError | None = None
        number, page = self._asked.pop(exchanged.question)
        pages = self._open[number]
        match exchanged.failure:
            case None if exchanged.answer is not None:
                answer = exchanged.answer
                new = self._seen[number].take(answer)
                self.progress.store(new, skip_existing=self._skip_existing)
                pages.answered(page, items=answer.items, total=answer.total, repeats=answer.items > 0 and not new.items)
                if not (page.offset or answer.items or answer.total):
                    self.progress.unknown.append(number)
            case IsbndbNotFound():
                pages.answered(page, items=0, total=None)
                if not page.offset:  # otherwise it is a page after the last
                    self.progress.unknown.append(number)
            case IsbndbPageTooLarge():
                pages.too_large(page)
            case failed:
                pages.fail(page)
                self.failure = self.failure or failed
        if pages.is_complete:
            del self._open[number], self._seen[number]
            self._conclude(number, pages)
        return failed

    def _question(self, number: int, page: Page, payer: Payer) -> Question[Answer]:
        question = page_of(self._listings[number], payer, page=page.number, page_size=page.size)
        self._asked[question] = number, page
        return question

    def _conclude(self, number: int, pages: Pages) -> None:
        if pages.has_more and pages.limit < MAX_RESULTS:
            self.progress.cut[number] = pages.limit
        elif pages.has_more:
            self.progress.beyond_reach.append(number)


def fetch_all(walk: Walk, spender: Spender, *, until: float = inf) -> None:
    """Fetches and stores all pages of the walk. It stops at the first failure.

    After `until` (monotonic clock) it starts no page except the first. Raises the failure, an IsbndbError, and what
    `ask_each` raises. Either way, what was under way is stored first.
    """

    def goes_on() -> bool:
        return not walk.failure and (not spender.dispatched or time.monotonic() <= until)

    for _ in fetch_each(walk, spender, goes_on=goes_on):
        pass
    if walk.failure:
        raise walk.failure


def fetch_each(
    walk: Walk, spender: Spender, *, goes_on: Callable[[], bool]
) -> Iterator[tuple[Exchanged[Answer], IsbndbError | None]]:
    """Fetches and stores the pages of the walk, and tells of each what `Walk.take` has returned.

    It starts another page while `goes_on`. Calls that are no longer needed are released on the way. When halved pages
    need more calls than are reserved, each request reserves its own. Raises what `ask_each` raises.
    """
    before = walk.progress.api_calls - spender.calls_spent
    try:
        with closing(ask_each(lambda: walk.next_question(spender) if goes_on() else None)) as exchanges:
            for exchanged in exchanges:
                yield exchanged, walk.take(exchanged)
                spender.release_beyond(walk.calls_needed)
    finally:
        walk.progress.api_calls = before + spender.calls_spent
