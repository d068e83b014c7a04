"""The crons that spend calls on books. Each gets many books out of a request, and can be ended at any point.

When ISBNdb fails to answer a batch or a page, the run records the failure and continues with the next one.
"""

from datetime import date, timedelta
from typing import Any

from django.conf import settings

from enrichment import selectors
from enrichment.books.storage import mark_named
from enrichment.exceptions import EnrichmentStopped, IsbndbError, IsbndbRefused
from enrichment.gateway.asking import ask
from enrichment.gateway.listings import updates_page
from enrichment.models.feed import FEED_HISTORY
from enrichment.services import feed
from enrichment.services.enrich import enrich_isbns
from enrichment.services.listings import Position, step_over
from enrichment.services.queue import flush
from enrichment.services.refresh_plans import AuthorListing, BatchValue, RefreshPlan, plan_refresh
from enrichment.services.refreshes import refresh_by_listing
from enrichment.services.releases import (
    MAX_PAGES_PER_MONTH,
    BadToken,
    Wanted,
    enrich_new_releases,
    read_token,
    resume_token,
)
from harvest.crons.run_context import MAX_FAILURES_IN_A_ROW, RunContext
from harvest.exceptions import RunStopped
from quota.prices import BatchPrice
from quota.selectors.prices import batch_size_for, get_prices, is_probe_due
from quota.spending import spending

MAX_BATCHES = 100
"""Maximum number of batches in one run of stale-refresh and of update-feed."""

MAX_CALLS = 3000
"""Maximum number of calls in one run of stale-refresh. By the ISBN, its batches would take the calls of the day."""

MAX_FEED_PAGES = 1000
"""Maximum number of pages of the update feed in one run; the next run continues after them."""


def new_releases(context: RunContext) -> None:
    """Stores the books of this month and last month, or continues where an earlier run stopped.

    A run skips a page that fails. When it still reaches the end, the next run reads all pages again. When ISBNdb
    answers no page after the failed one, the next run starts with the failed page, and skips it when it fails again.

    Cursor: {"resume"}, a token of enrichment.services.releases; empty when everything is done.
    """
    wanted, start = _wanted_and_start(context)
    position = start
    while True:
        context.check_can_continue()
        failure: Exception | None = None
        try:
            result = enrich_new_releases(wanted, consumer=context.consumer, position=position, source=context.source)
        except EnrichmentStopped as stopped:
            result, failure = stopped.result, stopped.reason
        context.books += result.progress.enriched
        if result.progress.has_answer:
            context.record_answer()
        after = step_over(result.progress.position, max_pages=wanted.max_pages_per_month)
        if context.in_a_row == 0:  # otherwise the next run starts with the first page of those that failed
            again = isinstance(failure, IsbndbError) and result.progress.position == start
            context.cursor = _releases_cursor(wanted, after if again else result.progress.position)
        if failure:
            context.record_failure(failure)
            position = after
        elif result.stopped_reason:
            raise RunStopped(result.stopped_reason)
        else:
            return


def stale_refresh(context: RunContext) -> None:
    """Refreshes stale editions by the cheapest plan: authors by their listings, then the oldest of the rest in batches.

    While the price of a batch is unknown, two editions are sent first: they are measured, and the plan is made after.

    A run never spends more than batches alone would. If listings have brought less than planned, the editions that the
    rest of these calls cannot pay for wait for the next run.

    Cursor: {"aside"}, how many of the oldest editions were in batches that failed the last time: they come last.
    """
    aside: int = context.cursor.get("aside", 0)
    oldest = selectors.stale_isbns(aside + 2)
    failed_before, first = oldest[:aside], oldest[aside:]
    if len(first) == 2 and is_probe_due():
        _refresh(first, context)
    plan = plan_stale_refresh(context.cursor)
    context.idle = plan.calls == 0
    calls_left = min(plan.calls_by_batches, MAX_CALLS)
    for listing in plan.listings:
        if context.in_a_row == MAX_FAILURES_IN_A_ROW - 1:
            break  # perhaps only listings fail: one failure more would end the run before the first batch
        if listing.pages <= calls_left:
            calls_left -= _refresh_listing(listing, plan.batch, context)
    # The listings have also renewed books for which no author is stored.
    rest = selectors.without_fresh(plan.isbns) if plan.listings else list(plan.isbns)
    affordable = max(0, calls_left) * plan.batch.size // plan.batch.calls
    _refresh_rest(rest[:affordable], selectors.without_fresh(failed_before), context)


def plan_stale_refresh(cursor: dict[str, Any]) -> RefreshPlan:
    """What a run of stale-refresh would do. Where a batch has one price for any number of ISBNs, only full ones count.

    Raises QuotaUnavailable.
    """
    size, aside = settings.ISBNDB_BATCH_SIZE, cursor.get("aside", 0)
    oldest = selectors.stale_isbns(MAX_BATCHES * size + aside)
    stale = (oldest[aside:] + oldest[:aside])[: MAX_BATCHES * size]
    if get_prices().batch_price == BatchPrice.REQUEST:
        stale = stale[: len(stale) // size * size]
    return plan_refresh(stale)


def _refresh_listing(listing: AuthorListing, batch: BatchValue, context: RunContext) -> int:
    """Refreshes the editions of an author; returns the calls spent. A failure of ISBNdb is recorded."""
    context.check_can_continue()
    failure: Exception | None = None
    try:
        renewal = refresh_by_listing(
            listing,
            batch=batch,
            consumer=context.consumer,
            source=context.source,
            before_page=context.check_can_continue,
        )
    except EnrichmentStopped as stopped:
        renewal, failure = stopped.result, stopped.reason
    context.books += renewal.progress.enriched
    if renewal.progress.has_answer:
        context.record_answer()
    if failure:
        context.record_failure(failure)
    return renewal.progress.api_calls


def _refresh_rest(rest: list[str], failed_before: list[str], context: RunContext) -> None:
    """Refreshes the ISBNs in batches. `failed_before`: those in batches that failed the last time."""
    untried = set(failed_before)
    failed = 0
    while rest:
        size = batch_size_for(context.consumer)
        batch, rest = rest[:size], rest[size:]
        if not _refresh(batch, context):
            failed += len(batch)
        untried.difference_update(batch)
        context.cursor = {"aside": len(untried) + failed} if untried or failed else {}


def update_feed(context: RunContext) -> None:
    """Marks the known ISBNs in ISBNdb's feed of updates, and refreshes them: what is stored or was requested before.

    First it reads the feed to its end, which costs no call. Then it sends what is marked, the oldest first. A mark
    stays until ISBNdb has answered for the ISBN, so what a run does not send waits for the next one. A batch that
    failed comes last there.

    A page that fails in two runs is skipped. That is a gap, as is a feed that ISBNdb refuses.

    Cursor: {"since"}, the first day to read next time. Within a reading also {"page", "began"}: the page to continue
    with, and the day that becomes `since`. After a failure {"failed_page"}.
    """
    reading = _Reading(context)
    for _ in range(MAX_FEED_PAGES):
        if reading.read_page():
            reading.finish()
            break
    _send_named(context)


class _Reading:
    """One reading of the feed. It can take several runs; `context.cursor` always holds the current place."""

    def __init__(self, context: RunContext) -> None:
        cursor, oldest = context.cursor, context.today - FEED_HISTORY
        self.context = context
        self.since = max(oldest, date.fromisoformat(cursor.get("since", oldest.isoformat())))
        self.began: str = cursor.get("began", context.today.isoformat())
        self.page: int = cursor.get("page", 1) if self.since.isoformat() == cursor.get("since") else 1
        self.failed_page: int | None = cursor.get("failed_page")
        feed.start_run(from_the_beginning=self.page == 1, run=context.source)

    def read_page(self) -> bool:
        """Reads the next page; True at the end of the feed."""
        self.context.check_can_continue()
        try:
            named = self._fetch()
        except IsbndbError as error:
            # Without the feed in the plan, or with a refused key, every other page fails too.
            if isinstance(error, IsbndbRefused):
                feed.record_gap(f"ISBNdb refused the feed: {error}", run=self.context.source)
            if self.failed_page != self.page or isinstance(error, IsbndbRefused):
                self._save_place(failed_page=self.page)
                raise
            feed.record_gap(f"Page {self.page} failed in two runs and was skipped: {error}", run=self.context.source)
            self.context.record_failure(error)
        else:
            self.context.record_answer()
            if not named:
                return True
            mark_named(named)
        self.page += 1
        self._save_place()
        return False

    def finish(self) -> None:
        self.context.cursor = {"since": self.began}
        feed.finish_reading()

    def _fetch(self) -> list[str]:
        context = self.context
        with spending(consumer=context.consumer, operation="update-feed", calls=0, source=context.source) as spender:
            return ask(updates_page(spender, since=self.since, page=self.page))

    def _save_place(self, **more: int) -> None:
        self.context.cursor = {"since": self.since.isoformat(), "began": self.began, "page": self.page, **more}


def _send_named(context: RunContext) -> None:
    """Refreshes what the feed has named, in batches of what is free.

    The oldest stale editions fill the last batch where they cost nothing more there.
    """
    full = settings.ISBNDB_BATCH_SIZE
    to_send = selectors.named_isbns(MAX_BATCHES * full)
    named = set(to_send)
    failed = 0
    while to_send:
        size = batch_size_for(context.consumer)
        batch, to_send = to_send[:size], to_send[size:]
        fill: list[str] = []
        if len(batch) < size and get_prices().batch_price == BatchPrice.REQUEST:
            fill = [isbn for isbn in selectors.stale_isbns(full + failed) if isbn not in named]
        if not _refresh(batch + fill[: size - len(batch)], context):
            failed += len(batch)
            mark_named(batch)  # again, so that it comes last


def queue_flush(context: RunContext) -> None:
    """Sends the batches of the queue that are full or due."""
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
    """Refreshes a batch; False when ISBNdb failed to answer it, which is recorded."""
    context.check_can_continue()
    try:
        result = enrich_isbns(isbns, consumer=context.consumer, source=context.source, refresh=True)
    except EnrichmentStopped as stopped:
        context.books += stopped.result.enriched
        context.record_failure(stopped.reason)
        return False
    context.record_answer()
    context.books += result.enriched
    return True


def _wanted_and_start(context: RunContext) -> tuple[Wanted, Position | None]:
    if "resume" in context.cursor:
        try:
            return read_token(context.cursor["resume"])
        except BadToken:  # SECRET_KEY has changed since
            pass
    this_month = context.today.replace(day=1)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    return Wanted(start_month=last_month, end_month=this_month, max_pages_per_month=MAX_PAGES_PER_MONTH), None


def _releases_cursor(wanted: Wanted, position: Position) -> dict[str, str]:
    return {"resume": resume_token(wanted, position)} if position.listing < len(wanted.listings) else {}
