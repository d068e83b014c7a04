"""Which pages of a listing are still to fetch. Several can be under way; each can fail, or be too large."""

from dataclasses import dataclass, field
from math import ceil
from typing import Any, NamedTuple, Self

from enrichment.gateway.listings import MAX_RESULTS, PAGE_SIZE

MAX_PAGES_AHEAD = 2
"""How many pages are asked for at once while ISBNdb does not say how many there are: at most as many as have come full.

A page beyond the end costs a call. So a listing of up to two pages loses none, and a longer one at most one call: one
in four, or fewer.
"""


class Page(NamedTuple):
    """A page: the number of books before it, which is a multiple of its size, and its size."""

    offset: int
    size: int = PAGE_SIZE

    @property
    def number(self) -> int:
        """Counted from 1, as ISBNdb counts the pages of this size."""
        return self.offset // self.size + 1

    @property
    def halves(self) -> list["Page"]:
        half = self.size // 2
        return [Page(self.offset, half), Page(self.offset + half, half)]

    @property
    def twin(self) -> "Page":
        """The other half of the page of which this is a half."""
        return Page((self.offset // self.size ^ 1) * self.size, self.size)


@dataclass
class Pages:
    """The pages of one listing. Each is fetched once, in whatever order the answers come.

    After the first page has told the total, all other pages can be under way; without a total, see MAX_PAGES_AHEAD. A
    page that ISBNdb finds too large is asked for in halves. A page that failed is not asked for again here: it stays
    missing, and a later run (`from_json`) asks for it when nothing else is left. So a page that always fails does not
    hide those after it: while no end is known, the next page is tried.
    """

    limit: int
    """Only the books before this one are asked for."""
    planned: int = 0
    """All pages before this book are planned: they have come, or are missing."""
    to_ask: list[Page] = field(default_factory=list)
    under_way: list[Page] = field(default_factory=list)
    failed: list[Page] = field(default_factory=list)
    failed_before: list[Page] = field(default_factory=list)
    """In an earlier run."""
    total: int | None = None
    """The number of books, as ISBNdb last said."""
    ended_at: int | None = None
    """The end that a page has shown: it was empty, repeated what had come, or was not full where there is no total."""
    full: int = 0
    """The number of full pages that came without a total."""

    @classmethod
    def begin(cls, *, start_page: int, max_pages: int) -> Self:
        """All pages of 1,000 books from `start_page` (counted from 1), at most `max_pages`."""
        before = (start_page - 1) * PAGE_SIZE
        pages = cls(limit=min(before + max_pages * PAGE_SIZE, MAX_RESULTS), planned=before)
        pages._plan()
        return pages

    @classmethod
    def from_json(cls, saved: dict[str, Any], *, start_page: int, max_pages: int) -> Self:
        """The pages that `as_json` has saved, for the same listing, start and maximum."""
        pages = cls.begin(start_page=start_page, max_pages=max_pages)
        failed = saved["failed"]
        if not saved["full"] and saved["total"] is saved["ended_at"] is None and failed == 1:
            return pages  # nothing is known but that ISBNdb has failed once, perhaps for any page
        missing = [Page(*page) for page in saved["missing"]]
        pages.to_ask, pages.failed_before = missing[: len(missing) - failed], missing[len(missing) - failed :]
        pages.planned, pages.total = saved["planned"], saved["total"]
        pages.ended_at, pages.full = saved["ended_at"], saved["full"]
        return pages

    def as_json(self) -> dict[str, Any]:
        """What a later run needs. Pages under way are missing."""
        missing, failed = self._missing_and_failed()
        return {
            "missing": [list(page) for page in missing],
            "failed": len(failed),
            "planned": self.planned,
            "total": self.total,
            "ended_at": self.ended_at,
            "full": self.full,
        }

    @property
    def missing(self) -> list[Page]:
        """The planned pages that have not come, those that failed last."""
        return self._missing_and_failed()[0]

    @property
    def is_complete(self) -> bool:
        return not self.calls_planned

    @property
    def has_more(self) -> bool:
        """Whether the listing goes on beyond `limit`, as far as is known."""
        return self.ended_at is None and (self.total is None or self.total > self.planned)

    @property
    def calls_needed(self) -> int:
        """The maximum number of calls for the rest, without retries, with the pages under way and those that failed."""
        unplanned = max(0, self._end - self.planned)
        return self.calls_planned + ceil(unplanned / PAGE_SIZE)

    @property
    def calls_planned(self) -> int:
        """The part of `calls_needed` for the pages that are planned: all, once the end is known."""
        return len(self.to_ask) + len(self.under_way) + len(self.failed) + len(self.failed_before)

    @property
    def first_missing(self) -> int:
        """The number of books before the first page that is missing or not planned yet."""
        return min([page.offset for page in self.missing] or [self.planned])

    def next(self) -> Page | None:
        """The next page to ask for. It is under way from now on, until one of the following is called with it."""
        pages = self.to_ask or self.failed_before
        if not pages or len(self.under_way) >= self._at_once:
            return None
        page = pages.pop(0)
        self.under_way.append(page)
        return page

    def answered(self, page: Page, *, items: int, total: int | None, repeats: bool = False) -> None:
        """The page has come with so many books, and the total, if ISBNdb said it. `repeats`: all of them came before.

        A total below the number of books that have come is none. Nor is one that a full page reaches exactly: it may be
        the number of books on the page.
        """
        self.under_way.remove(page)
        come = page.offset if repeats else page.offset + items
        is_full = items == page.size and not repeats
        if total is not None and (total > come or (total == come and not is_full)):
            self.total = total
        elif self.total is not None and self.total < come:
            self.total = None
        if not items or repeats or (self.total is None and not is_full):
            self.ended_at = come if self.ended_at is None else min(self.ended_at, come)
        elif self.total is None:
            self.full += 1
        self._plan()

    def too_large(self, page: Page) -> None:
        """ISBNdb could not send so many books at once."""
        self.under_way.remove(page)
        self.to_ask[:0] = page.halves
        self._plan()

    def fail(self, page: Page) -> None:
        """ISBNdb failed to answer."""
        self.under_way.remove(page)
        self.failed.append(page)
        self._plan()

    @property
    def _is_end_known(self) -> bool:
        return self.total is not None or self.ended_at is not None

    @property
    def _end(self) -> int:
        """No page that begins at this book or later is needed."""
        return min(end for end in (self.limit, self.total, self.ended_at) if end is not None)

    @property
    def _at_once(self) -> int:
        return MAX_RESULTS if self._is_end_known else max(1, min(self.full, MAX_PAGES_AHEAD))

    def _plan(self) -> None:
        """Plans the pages that can be asked for now, and drops those beyond the end."""
        for pages in (self.to_ask, self.failed, self.failed_before):
            pages[:] = [page for page in pages if page.offset < self._end]
        while self.planned < self._end and len(self.to_ask) + len(self.under_way) < self._at_once:
            self.to_ask.append(Page(self.planned))
            self.planned += PAGE_SIZE

    def _missing_and_failed(self) -> tuple[list[Page], set[Page]]:
        """The pages of `missing`, and those among them that failed.

        When a small page failed, its size was not the cause: then the halves of pages are put together again.
        """
        failed = {*self.failed, *self.failed_before}
        pages = {*self.under_way, *self.to_ask, *failed}
        if any(page.size < PAGE_SIZE for page in self.failed):
            size = min(page.size for page in pages)
            while size < PAGE_SIZE:
                for half in [page for page in pages if page.size == size]:
                    twin = half.twin
                    if half in pages and (twin in pages or twin.offset >= self._end):
                        whole = Page(min(half.offset, twin.offset), 2 * size)
                        if not failed.isdisjoint((half, twin)):
                            failed.add(whole)
                        pages = pages - {half, twin} | {whole}
                size *= 2
        return sorted(pages, key=lambda page: (page in failed, page)), failed & pages
