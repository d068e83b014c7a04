"""Stores all books by one author, with as few calls as possible."""

from dataclasses import dataclass
from typing import Any

from enrichment import selectors
from enrichment.books.storage import remember_author_miss
from enrichment.exceptions import ENDINGS, EnrichmentStopped
from enrichment.gateway.listings import PAGE_SIZE, books_by_author
from enrichment.models import AuthorMiss
from enrichment.services.listings import Progress, calls_needed, position_at, walk
from enrichment.services.stop_reasons import STOPS, stop_reason
from quota.spending import spending

MAX_PAGES = 10


@dataclass
class Bibliography:
    """The result for an author. `progress` has the figures.

    `complete`: all of ISBNdb's books by the author were fetched. `stopped_reason`: why it is not complete: `max_pages`,
    `isbndb_ceiling` (ISBNdb gives at most 10,000 books), a limit of the quota, or a failure of ISBNdb.
    """

    author: str
    progress: Progress
    complete: bool = False
    stopped_reason: str | None = None

    @property
    def next_page(self) -> int | None:
        """The page of 1,000 books to continue with; None when there is no more."""
        progress = self.progress
        if self.complete or (progress.position.listing and not progress.cut):
            return None
        return progress.cut.get(0, progress.position.offset) // PAGE_SIZE + 1

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
    """Stores ISBNdb's books by `author` (1 to 150 characters), page by page.

    It fetches at most `max_pages` pages of 1,000 books, from `start_page`. To continue a run that stopped, use its
    `next_page`. `consumer`: the slug of the payer. `source`: the purpose, for the journal. `skip_existing`: leave fresh
    editions unchanged, and do not ask for an author that is remembered as unknown by this name (misses.py).

    All calls are reserved at the start; those that are not needed are released as soon as that is known. When the quota
    stops the run after the first page, the function returns with a `stopped_reason`. Every other stop raises
    EnrichmentStopped with the result so far and one of ENDINGS.
    """
    result = Bibliography(author=author, progress=Progress(position_at((start_page - 1) * PAGE_SIZE)))
    if skip_existing and start_page == 1 and selectors.is_missed_author(author):
        result.complete = True
        return result
    listings = [books_by_author(author)]
    last_page = start_page - 1 + max_pages
    needed = calls_needed(listings, result.progress, max_pages=last_page)
    try:
        with spending(consumer=consumer, operation="bibliography", calls=needed, source=source) as spender:
            walk(listings, result.progress, spender, max_pages=last_page, skip_existing=skip_existing)
        conclude(result)
    except ENDINGS as error:
        result.stopped_reason = stop_reason(error)
        if not isinstance(error, STOPS) or not result.progress.has_answer:
            raise EnrichmentStopped(result, error) from error
    return result


def conclude(result: Bibliography) -> None:
    """Sets `complete` and `stopped_reason` after the last page, and remembers whether ISBNdb knows the author."""
    progress = result.progress
    if progress.unknown:
        remember_author_miss(result.author)
    else:
        AuthorMiss.objects.filter(pk=result.author).delete()
    if progress.cut:
        result.stopped_reason = "max_pages"
    elif progress.beyond_reach:
        result.stopped_reason = "isbndb_ceiling"
    result.complete = result.stopped_reason is None
