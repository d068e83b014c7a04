"""Stores all books by one author, with as few calls as possible."""

import time
from dataclasses import dataclass
from typing import Any

from django.db.models.functions import Now

from alexandria.common.text import as_programs_read
from enrichment.books.storage import remember_author_miss
from enrichment.exceptions import ENDINGS, EnrichmentStopped
from enrichment.gateway.listings import PAGE_SIZE, books_by_author
from enrichment.models import AuthorMiss, ListedAuthor
from enrichment.selectors.books import get_listed_author, is_missed_author
from enrichment.selectors.jobs import MAX_PAGES
from enrichment.services.listings import Progress, Walk, fetch_all
from enrichment.services.single_flight import MAX_WAIT_SECONDS, asking, wait_for_others
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
    listed: ListedAuthor | None = None
    """What ISBNdb has listed lately, if it was not asked again because of that."""

    @property
    def progress(self) -> Progress:
        return self.walk.progress

    @property
    def next_page(self) -> int | None:
        """The page of 1,000 books to continue with: the first that is missing. None when there is no more."""
        if self.complete:
            return None
        if self.listed is not None:
            return self.listed.next_page
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
            "listed_at": as_programs_read(self.listed.listed_at) if self.listed else None,
        }


def enrich_bibliography(
    author: str,
    *,
    consumer: str,
    max_pages: int = MAX_PAGES,
    start_page: int = 1,
    skip_existing: bool = True,
    refresh: bool = False,
    source: str = "",
) -> Bibliography:
    """Stores ISBNdb's books by `author` (1 to 150 characters), with several pages under way.

    It fetches at most `max_pages` pages of 1,000 books, from `start_page`. To continue a run that stopped, use its
    `next_page`. `consumer`: the slug of the payer. `source`: the purpose, for the journal. `skip_existing`: leave fresh
    editions unchanged.

    It asks for nothing when ISBNdb has listed these pages within a day, or when the author is remembered as unknown by
    this name (misses.py), unless `refresh` or not `skip_existing`. It waits while somebody else asks for the author.

    All calls are reserved at the start; those that are not needed are released as soon as that is known. When the quota
    stops the run after the first page, the function returns with a `stopped_reason`. Every other stop raises
    EnrichmentStopped with the result so far and one of ENDINGS.
    """
    walk = walk_of(author, max_pages=max_pages, start_page=start_page, skip_existing=skip_existing)
    result = Bibliography(author, walk)
    again = refresh or not skip_existing
    give_up_at = time.monotonic() + MAX_WAIT_SECONDS
    try:
        while not is_known(result, max_pages=max_pages, start_page=start_page, again=again):
            with asking({subject := f"author {author} from {start_page}"}) as mine:
                # The answer may have come just before the claim.
                if mine and not is_known(result, max_pages=max_pages, start_page=start_page, again=again):
                    with spending(
                        consumer=consumer, operation="bibliography", calls=walk.calls_needed, source=source
                    ) as spender:
                        fetch_all(walk, spender)
                    conclude(result, start_page=start_page)
                if mine:
                    return result
            wait_for_others({subject}, until=give_up_at)
    except ENDINGS as error:
        result.stopped_reason = stop_reason(error)
        if not isinstance(error, STOPS) or not result.progress.has_answer:
            raise EnrichmentStopped(result, error) from error
    return result


def is_known(result: Bibliography, *, max_pages: int, start_page: int, again: bool) -> bool:
    """Whether ISBNdb has listed the author lately, or did not know it, so that it is not asked. `result` says so.

    `again`: only a listing within the last minute counts.
    """
    if start_page > 1:
        return False
    if not again and is_missed_author(result.author):
        result.complete = True
        return True
    result.listed = get_listed_author(result.author, max_pages=max_pages, refresh=again)
    if result.listed is not None:
        result.stopped_reason = result.listed.stopped_reason or None
        result.complete = result.stopped_reason is None
    return result.listed is not None


def walk_of(author: str, *, max_pages: int, start_page: int = 1, skip_existing: bool = True, **saved: Any) -> Walk:
    """The walk through the author's pages. `saved`: `place` and `progress` of an earlier walk."""
    return Walk(
        [books_by_author(author)], max_pages=max_pages, start_page=start_page, skip_existing=skip_existing, **saved
    )


def conclude(result: Bibliography, *, start_page: int = 1) -> None:
    """Sets `complete` and `stopped_reason` after the last page, and remembers what ISBNdb has of the author."""
    progress = result.progress
    remember_author(result.author, progress)
    if progress.cut:
        result.stopped_reason = "max_pages"
    elif progress.beyond_reach:
        result.stopped_reason = "isbndb_ceiling"
    result.complete = result.stopped_reason is None
    if start_page == 1:
        remember_listing(result.author, progress, next_page=result.next_page, stopped_reason=result.stopped_reason)


def remember_listing(author: str, progress: Progress, *, next_page: int | None, stopped_reason: str | None) -> None:
    """Remembers that ISBNdb has listed the author from the first page up to `next_page` (None: all that it gives)."""
    if not progress.unknown:
        listed = {"listed_at": Now(), "next_page": next_page, "stopped_reason": stopped_reason or ""}
        ListedAuthor.objects.update_or_create(pk=author, defaults=listed)


def remember_author(author: str, progress: Progress) -> None:
    """Remembers whether ISBNdb knows the author by this name, when all pages have come."""
    if progress.unknown:
        remember_author_miss(author)
    else:
        AuthorMiss.objects.filter(pk=author).delete()
