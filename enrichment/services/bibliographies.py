"""Stores all books by one author, with as few calls as possible."""

from dataclasses import dataclass
from typing import Any

from enrichment import selectors
from enrichment.books.storage import remember_author_miss
from enrichment.exceptions import ENDINGS, EnrichmentStopped
from enrichment.gateway.listings import PAGE_SIZE, books_by_author
from enrichment.models import AuthorMiss
from enrichment.selectors import MAX_PAGES
from enrichment.services.listings import Progress, Walk, fetch_all
from enrichment.services.stop_reasons import STOPS, stop_reason
from quota.spending import spending


@dataclass
class Bibliography:
    """The result for an author. `walk` has the figures.

    `complete`: all of ISBNdb's books by the author were fetched. `stopped_reason`: why it is not complete: `max_pages`,
    `isbndb_ceiling` (ISBNdb gives at most 10,000 books), a limit of the quota, or a failure of ISBNdb.
    """

    author: str
    walk: Walk
    complete: bool = False
    stopped_reason: str | None = None

    @property
    def progress(self) -> Progress:
        return self.walk.progress

    @property
    def next_page(self) -> int | None:
        """The page of 1,000 books to continue with: the first that is missing. None when there is no more."""
        if self.complete:
            return None
        if 0 in self.progress.cut:
            return self.progress.cut[0] // PAGE_SIZE + 1
        return None if self.walk.is_complete else self.walk.next_page

    def as_dict(self) -> dict[str, Any]:
        """The result as the API and a job show it."""
        return {
            "author": self.author,
            **self.progress.as_dict(),
            "complete": self.complete,
            "stopped_reason": self.stopped_reason,
            "next_page": self.next_page,
        }


def enrich_bibliography(
    author: str,
    *,
    consumer: str,
    max_pages: int = MAX_PAGES,
    start_page: int = 1,
    skip_existing: bool = True,
    source: str = "",
) -> Bibliography:
    """Stores ISBNdb's books by `author` (1 to 150 characters), with several pages under way.

    It fetches at most `max_pages` pages of 1,000 books, from `start_page`. To continue a run that stopped, use its
    `next_page`. `consumer`: the slug of the payer. `source`: the purpose, for the journal. `skip_existing`: leave fresh
    editions unchanged, and do not ask for an author that is remembered as unknown by this name (misses.py).

    All calls are reserved at the start; those that are not needed are released as soon as that is known. When the quota
    stops the run after the first page, the function returns with a `stopped_reason`. Every other stop raises
    EnrichmentStopped with the result so far and one of ENDINGS.
    """
    walk = walk_of(author, max_pages=max_pages, start_page=start_page, skip_existing=skip_existing)
    result = Bibliography(author, walk)
    if skip_existing and start_page == 1 and selectors.is_missed_author(author):
        result.complete = True
        return result
    try:
        with spending(consumer=consumer, operation="bibliography", calls=walk.calls_needed, source=source) as spender:
            fetch_all(walk, spender)
        conclude(result)
    except ENDINGS as error:
        result.stopped_reason = stop_reason(error)
        if not isinstance(error, STOPS) or not result.progress.has_answer:
            raise EnrichmentStopped(result, error) from error
    return result


def walk_of(author: str, *, max_pages: int, start_page: int = 1, skip_existing: bool = True, **saved: Any) -> Walk:
    """The walk through the author's pages. `saved`: `place` and `progress` of an earlier walk."""
    return Walk(
        [books_by_author(author)], max_pages=max_pages, start_page=start_page, skip_existing=skip_existing, **saved
    )


def conclude(result: Bibliography) -> None:
    """Sets `complete` and `stopped_reason` after the last page, and remembers whether ISBNdb knows the author."""
    progress = result.progress
    remember_author(result.author, progress)
    if progress.cut:
        result.stopped_reason = "max_pages"
    elif progress.beyond_reach:
        result.stopped_reason = "isbndb_ceiling"
    result.complete = result.stopped_reason is None


def remember_author(author: str, progress: Progress) -> None:
    """Remembers whether ISBNdb knows the author by this name, when all pages have come."""
    if progress.unknown:
        remember_author_miss(author)
    else:
        AuthorMiss.objects.filter(pk=author).delete()
