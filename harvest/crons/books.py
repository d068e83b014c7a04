"""The crons that spend calls on books. Each gets many books out of a request, and can be ended at any point.

When ISBNdb fails to answer a batch or a page, the run records the failure and continues with the next one.
"""

from contextlib import closing
from datetime import timedelta
from typing import Any

from django.conf import settings

from enrichment.books.decoding import Answer
from enrichment.exceptions import EnrichmentStopped
from enrichment.gateway.asking import ask_each
from enrichment.gateway.questions import Question
from enrichment.selectors.books import stale_isbns
from enrichment.selectors.refreshes import without_fresh
from enrichment.services.enrich import enrich_isbns
from enrichment.services.listings import fetch_each
from enrichment.services.queue_flush import flush
from enrichment.services.refresh_plans import RefreshPlan, plan_refresh
from enrichment.services.refreshes import Renewal, Renewals
from enrichment.services.releases import MAX_PAGES_PER_MONTH, BadToken, Wanted, read_token, resume_token
from harvest.crons.batches import refreshed
from harvest.crons.run_context import MAX_FAILURES_IN_A_ROW, RunContext
from harvest.exceptions import RunStopped
from quota.prices import BatchPrice
from quota.selectors.prices import batch_size_for, get_prices, is_probe_due
from quota.spending import Spender, for_one_question, spending

MAX_BATCHES = 100
"""Maximum number of batches in one run of stale-refresh."""

MAX_CALLS = 3000
"""Maximum number of calls in one run of stale-refresh. By the ISBN, its batches would take the calls of the day."""


def new_releases(context: RunContext) -> None:
    """Stores the books of this month and last month, or continues where an earlier run stopped.

    A run skips a page that fails. When it still reaches the end, the next run reads all pages again. Otherwise the next
    run asks for exactly the pages that are missing, those that failed after the others.

    Cursor: {"resume"}, a token of enrichment.services.releases, saved after each page; empty when all is done.
    """
    wanted, place = _wanted_and_place(context)
    walk = wanted.walk(place)
    calls = walk.calls_needed
    with spending(consumer=context.consumer, operation="new-releases", calls=calls, source=context.source) as spender:
        for exchanged, failure in fetch_each(walk, spender, goes_on=lambda: context.can_continue):
            context.books = walk.progress.enriched
            if failure:
                context.record_failure(failure)
            elif exchanged.is_answered:
                context.record_answer()
            context.save_cursor(
                {} if walk.is_complete else {"resume": resume_token(wanted, walk.place, consumer=context.consumer)}
            )
    context.check_can_continue()
    context.cursor = {}


def stale_refresh(context: RunContext) -> None:
    """Refreshes stale editions by the cheapest plan: authors by their listings, then the oldest of the rest in batches.

    While the price of a batch is unknown, two editions are sent first: they are measured, and the plan is made after.

    A run never spends more than batches alone would. If listings have brought less than planned, the editions that the
    rest of these calls cannot pay for wait for the next run.

    Cursor: {"aside"}, how many of the oldest editions were in batches that failed the last time: they come last.
    """
    aside: int = context.cursor.get("aside", 0)
    oldest = stale_isbns(aside + 2)
    failed_before, first = oldest[:aside], oldest[aside:]
    if len(first) == 2 and is_probe_due():
        _refresh(first, context)
    plan = plan_stale_refresh(context.cursor)
    context.idle = plan.calls == 0
    calls_left = min(plan.calls_by_batches, MAX_CALLS)
    calls_left -= _refresh_by_listings(plan, calls_left, context)
    # The listings have also renewed books for which no author is stored.
    rest = without_fresh(plan.isbns) if plan.listings else list(plan.isbns)
    affordable = max(0, calls_left) * plan.batch.size // plan.batch.calls
    _refresh_rest(rest[:affordable], without_fresh(failed_before), context)


def plan_stale_refresh(cursor: dict[str, Any]) -> RefreshPlan:
    """What a run of stale-refresh would do. Where a batch has one price for any number of ISBNs, only full ones count.

    Raises QuotaUnavailable.
    """
    size, aside = settings.ISBNDB_BATCH_SIZE, cursor.get("aside", 0)
    oldest = stale_isbns(MAX_BATCHES * size + aside)
    stale = (oldest[aside:] + oldest[:aside])[: MAX_BATCHES * size]
    if get_prices().batch_price == BatchPrice.REQUEST:
        stale = stale[: len(stale) // size * size]
    return plan_refresh(stale)


def _refresh_by_listings(plan: RefreshPlan, max_calls: int, context: RunContext) -> int:
    """Refreshes the editions of the authors in the plan, as far as `max_calls` go; returns the calls spent.

    A failure of ISBNdb is recorded. Perhaps only listings fail, so the last failure in a row is left to the batches.
    """
    listings = iter(plan.listings)
    payers: list[Spender] = []

    def calls_spent() -> int:
        return sum(payer.calls_spent for payer in payers)

    def next_renewal() -> Renewal | None:
        may_fail = 0 if context.has_answer and not context.in_a_row else renewals.under_way
        if context.in_a_row + may_fail >= MAX_FAILURES_IN_A_ROW - 1:
            return None
        calls_left = max_calls - calls_spent() - renewals.calls_expected
        affordable = next((listing for listing in listings if listing.pages <= calls_left), None)
        return Renewal(affordable, plan.batch) if affordable else None

    def next_question() -> Question[Answer] | None:
        payers.append(for_one_question(consumer=context.consumer, operation="refresh", source=context.source))
        return None if context.lost else renewals.next_question(payers[-1])

    renewals = Renewals(next_renewal)
    books = context.books
    with closing(ask_each(next_question)) as exchanges:
        for exchanged in exchanges:
            if failure := renewals.take(exchanged):
                context.record_failure(failure)
            elif exchanged.is_answered:
                context.record_answer()
            context.books = books + renewals.enriched
    return calls_spent()


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
        result = flush(source=context.source)
    except EnrichmentStopped as stopped:
        context.books += stopped.result.enrichment.enriched
        raise
    context.books += result.enrichment.enriched
    context.idle = result.batches == 0
    if result.stopped_reason:
        raise RunStopped(result.stopped_reason)


def _refresh(isbns: list[str], context: RunContext) -> None:
    """Refreshes a batch. A failure of ISBNdb to answer it is recorded."""
    context.check_can_continue()
    try:
        result = enrich_isbns(isbns, consumer=context.consumer, source=context.source, refresh=True)
    except EnrichmentStopped as stopped:
        context.books += stopped.result.enriched
        context.record_failure(stopped.reason)
        return
    context.record_answer()
    context.books += result.enriched


def _wanted_and_place(context: RunContext) -> tuple[Wanted, dict[str, Any] | None]:
    if "resume" in context.cursor:
        try:
            return read_token(context.cursor["resume"], consumer=context.consumer)
        except BadToken:  # SECRET_KEY has changed since
            pass
    this_month = context.today.replace(day=1)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    return Wanted(start_month=last_month, end_month=this_month, max_pages_per_month=MAX_PAGES_PER_MONTH), None
