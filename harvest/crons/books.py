"""The crons that spend calls on books. Each gets many books out of a request, and can be ended at any point.

When ISBNdb fails to answer a batch or a page, the run records the failure and continues with the next one.
"""

from datetime import timedelta
from typing import Any

from django.conf import settings

from enrichment import selectors
from enrichment.exceptions import EnrichmentStopped, IsbndbError
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
from harvest.crons.batches import refreshed
from harvest.crons.run_context import MAX_FAILURES_IN_A_ROW, RunContext
from harvest.exceptions import RunStopped
from quota.prices import BatchPrice
from quota.selectors.prices import batch_size_for, get_prices, is_probe_due

MAX_BATCHES = 100
"""Maximum number of batches in one run of stale-refresh."""

MAX_CALLS = 3000
"""Maximum number of calls in one run of stale-refresh. By the ISBN, its batches would take the calls of the day."""


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

    def next_batch() -> list[str]:
        size = batch_size_for(context.consumer) if rest else 0
        batch, rest[:] = rest[:size], rest[size:]
        return batch

    for batch, answered in refreshed(next_batch, context):
        failed += 0 if answered else len(batch)
        untried.difference_update(batch)
        context.cursor = {"aside": len(untried) + failed} if untried or failed else {}


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
