"""The crons that spend calls on books. Each gets the most books out of a call and can be ended anywhere.

A batch or a page that ISBNdb fails at is noted and left aside, so that it blocks nothing that comes after it.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from django.conf import settings

from enrichment import selectors
from enrichment.exceptions import EnrichmentStopped, IsbndbError, IsbndbRefused
from enrichment.gateway.listings import fetch_updates
from enrichment.services.enrich import enrich_isbns
from enrichment.services.listings import Position, step_over
from enrichment.services.queue import flush
from enrichment.services.releases import (
    MOST_PAGES,
    BadToken,
    Wanted,
    enrich_new_releases,
    read_token,
    resume_token,
)
from harvest.crons.run_context import RunContext
from harvest.exceptions import RunStopped
from quota.spending import spending

MOST_BATCHES = 100
"""Full batches that one run of stale-refresh sends at the most."""

MOST_FEED_PAGES = 100
"""Pages of the update feed that one run reads at the most; the next run goes on from there."""

FEED_HISTORY = timedelta(days=7)
"""ISBNdb's feed goes back no further."""


def new_releases(context: RunContext) -> None:
    """Stores the books of this and last month, or first goes on where an earlier run stopped.

    A page that fails is stepped over: once the rest is done, the next run begins with all pages anew. When nothing
    comes after it, the next run goes on there, and after it when it fails again.

    Cursor: {"resume"}, a token of enrichment.services.releases; empty once all is done.
    """
    wanted, begun_at = _where_to_go_on(context)
    position = begun_at
    while True:
        context.go_on()
        failure: Exception | None = None
        try:
            result = enrich_new_releases(wanted, consumer=context.consumer, position=position, source=context.source)
        except EnrichmentStopped as stopped:
            result, failure = stopped.result, stopped.reason
        context.books += result.progress.enriched
        if result.progress.came_forward:
            context.answered()
        after = step_over(result.progress.position, max_pages=wanted.max_pages_per_month)
        if context.in_a_row == 0:  # otherwise the next run goes on at the first of those that failed
            again = isinstance(failure, IsbndbError) and result.progress.position == begun_at
            context.cursor = _releases_cursor(wanted, after if again else result.progress.position)
        if failure:
            context.failed(failure)
            position = after
        elif result.stopped_reason:
            raise RunStopped(result.stopped_reason)
        else:
            return


def stale_refresh(context: RunContext) -> None:
    """Asks again for the editions beyond EDITION_FRESH_DAYS, oldest first, in full batches only.

    Cursor: {"aside"}, how many of the oldest were in batches that failed when last asked for: they come last.
    """
    size = settings.ISBNDB_BATCH_SIZE
    aside: int = context.cursor.get("aside", 0)
    oldest = selectors.stale_isbns(MOST_BATCHES * size + aside)
    stale = oldest[aside:] + oldest[:aside]
    untried = set(oldest[:aside])
    full = min(len(stale) // size, MOST_BATCHES)
    context.idle = full == 0
    failed = 0
    for number in range(full):
        batch = stale[number * size : (number + 1) * size]
        if not _refresh(batch, context):
            failed += size
        untried.difference_update(batch)
        context.cursor = {"aside": len(untried) + failed} if untried or failed else {}


def update_feed(context: RunContext) -> None:
    """Asks again for what ISBNdb says has changed, of the ISBNs that anybody has ever asked for.

    They go out in full batches; the last one is filled up with the oldest stale editions.

    A batch that fails is asked for once more by the next run, and a page that fails twice is stepped over.

    Cursor: {"since"}, the day from which on the feed is read next; of a pass that was stopped also {"page", "pending",
    "began"}: the page to go on with, ISBNs that were read and not asked for yet, and the day that becomes `since`.
    After failures {"again"}, ISBNs to ask for once more, and {"failed_page"}.
    """
    through = _FeedPass(context)
    for _ in range(MOST_FEED_PAGES):
        through.ask_for_full_batches()
        if through.read_page():
            through.finish()
            return


class _FeedPass:
    """One pass through the feed, which may take several runs; `context.cursor` always says how far it is."""

    def __init__(self, context: RunContext) -> None:
        cursor, oldest = context.cursor, context.today - FEED_HISTORY
        self.context = context
        self.since = max(oldest, date.fromisoformat(cursor.get("since", oldest.isoformat())))
        self.began: str = cursor.get("began", context.today.isoformat())
        self.page: int = cursor.get("page", 1) if self.since.isoformat() == cursor.get("since") else 1
        self.failed_page: int | None = cursor.get("failed_page")
        self.failed_before: list[str] = cursor.get("again", [])
        self.pending: list[str] = cursor.get("pending", []) + self.failed_before
        self.again: list[str] = []
        self.asked: set[str] = set()  # a book that changed on several days comes up several times

    def ask_for_full_batches(self) -> None:
        size = settings.ISBNDB_BATCH_SIZE
        while len(self.pending) >= size:
            self._ask_for(self.pending[:size])
            self.pending = self.pending[size:]
            self._keep_place()

    def read_page(self) -> bool:
        """Reads the next page; True when nothing comes any more."""
        self.context.go_on()
        try:
            changed = self._fetch()
        except IsbndbError as error:
            # A plan without the feed, or a key that is not accepted, has no other page either.
            if self.failed_page != self.page or isinstance(error, IsbndbRefused):
                self._keep_place(failed_page=self.page)
                raise
            self.context.failed(error)
        else:
            self.context.answered()
            if not changed:
                return True
            known = selectors.isbns_heard_of(changed) - self.asked.union(self.pending)
            self.pending = self.pending + [isbn for isbn in changed if isbn in known]
        self.page += 1
        self._keep_place()
        return False

    def finish(self) -> None:
        """Asks for the rest, filled up with the oldest stale editions."""
        if self.pending:
            size = settings.ISBNDB_BATCH_SIZE
            company = [isbn for isbn in selectors.stale_isbns(size) if isbn not in set(self.pending)]
            self._ask_for(self.pending, company=company[: size - len(self.pending)])
        self._keep(since=self.began)

    def _fetch(self) -> list[str]:
        context = self.context
        with spending(consumer=context.consumer, operation="update-feed", calls=1, source=context.source) as spender:
            return fetch_updates(spender, since=self.since, page=self.page)

    def _ask_for(self, isbns: list[str], *, company: Sequence[str] = ()) -> None:
        if not _refresh([*isbns, *company], self.context):
            self.again = self.again + [isbn for isbn in isbns if isbn not in self.failed_before]
        self.asked.update(isbns)

    def _keep_place(self, **more: int) -> None:
        place = {"since": self.since.isoformat(), "began": self.began, "page": self.page, "pending": self.pending}
        self._keep(**place, **more)

    def _keep(self, **where: Any) -> None:
        self.context.cursor = where | ({"again": self.again} if self.again else {})


def queue_flush(context: RunContext) -> None:
    """Sends what waits in the queue and is worth a call."""
    try:
        result = flush(consumer=context.consumer, source=context.source)
    except EnrichmentStopped as stopped:
        context.books += stopped.result.enrichment.enriched
        raise
    context.books += result.enrichment.enriched
    context.idle = result.batches == 0
    if result.stopped_reason:
        raise RunStopped(result.stopped_reason)


def _refresh(isbns: list[str], context: RunContext) -> bool:
    """Asks again for a batch; False when ISBNdb failed at it, which is noted."""
    context.go_on()
    try:
        result = enrich_isbns(isbns, consumer=context.consumer, source=context.source, refresh=True)
    except EnrichmentStopped as stopped:
        context.books += stopped.result.enriched
        context.failed(stopped.reason)
        return False
    context.answered()
    context.books += result.enriched
    return True


def _where_to_go_on(context: RunContext) -> tuple[Wanted, Position | None]:
    if "resume" in context.cursor:
        try:
            return read_token(context.cursor["resume"])
        except BadToken:  # SECRET_KEY was changed meanwhile
            pass
    this_month = context.today.replace(day=1)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    return Wanted(start_month=last_month, end_month=this_month, max_pages_per_month=MOST_PAGES), None


def _releases_cursor(wanted: Wanted, position: Position) -> dict[str, str]:
    return {"resume": resume_token(wanted, position)} if position.listing < len(wanted.listings) else {}
