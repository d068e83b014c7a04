"""Refreshes ISBNs by the cheapest plan (refresh_plans.py): by the listings of authors, and the rest in batches."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from enrichment import selectors
from enrichment.exceptions import ENDINGS, EnrichmentStopped, IsbndbError
from enrichment.gateway.listings import Listing, books_by_author
from enrichment.isbn.parsing import parse_many
from enrichment.services.bibliographies import MAX_PAGES, Bibliography, conclude
from enrichment.services.enrich import Enrichment, accounted, ask_in_batches
from enrichment.services.listings import Progress, calls_needed, fetch_next
from enrichment.services.refresh_plans import AuthorListing, BatchValue, RefreshPlan, plan_refresh
from quota.spending import Spender, spending

log = structlog.get_logger(__name__)

LISTINGS_TIME = timedelta(seconds=20)
"""While somebody waits for the answer, no listing begins later than this after the first."""

MAX_DEBT = 3
"""When listings have cost so many calls more than batches, no more of them are tried."""


@dataclass
class Renewal:
    """What a listing has done for the wanted editions. `progress` counts all its books."""

    renewed: set[str] = field(default_factory=set)
    """The editions of the listing that came and are stored."""
    progress: Progress = field(default_factory=Progress)


def refresh_isbns(values: Iterable[str | int], *, consumer: str, source: str = "") -> Enrichment:
    """As `enrich_isbns` with `refresh`, but editions that are stored already can come by the listings of their authors.

    Listings begin within LISTINGS_TIME. All other ISBNs, and what the listings did not bring, go into batches. It
    reserves what the plan costs, and more when the listings disappoint.
    """
    given = list(values)
    parsed = parse_many(given)
    result = Enrichment(requested=len(given), valid=len(parsed.valid), invalid=parsed.invalid)
    plan, rest = plan_refresh(parsed.valid), list(parsed.valid)
    if rest:
        with (
            spending(consumer=consumer, operation="batch-direct", calls=plan.calls, source=source) as spender,
            accounted(rest, spender, result),
        ):
            if plan.listings:
                _by_listings(plan, rest, spender, result)
            ask_in_batches(rest, spender, result)
    return result


def refresh_by_listing(
    listing: AuthorListing,
    *,
    batch: BatchValue,
    consumer: str,
    source: str = "",
    before_page: Callable[[], object] = lambda: None,
) -> Renewal:
    """Renews the editions of the listing, as an operation of its own. `consumer`: the slug of the payer.

    Raises EnrichmentStopped with the Renewal so far and one of ENDINGS, and what `before_page` raises.
    """
    renewal = Renewal()
    try:
        with spending(consumer=consumer, operation="refresh", calls=listing.pages, source=source) as spender:
            renew(listing, renewal, spender, batch=batch, before_page=before_page)
    except ENDINGS as error:
        raise EnrichmentStopped(renewal, error) from error
    return renewal


def renew(
    listing: AuthorListing,
    renewal: Renewal,
    spender: Spender,
    *,
    batch: BatchValue,
    before_page: Callable[[], object] = lambda: None,
) -> None:
    """Fetches and stores pages of the listing while they are cheaper than batches; adds what came to `renewal`.

    It ends when a page has renewed no more than a batch does for the same call, or when a batch is as cheap for what is
    still missing. ISBNdb may list the author by another spelling or not at all, so what is missing is no miss. An
    unknown author is remembered. Raises one of ENDINGS, and what `before_page` raises.
    """
    progress, listings = renewal.progress, [books_by_author(listing.name)]
    missing = set(listing.isbns)
    while (pages := _pages_left(listings, progress)) and batch.is_less_than(len(missing), calls=pages):
        before_page()
        had, before = progress.pages_fetched, selectors.sync_times(missing)
        fetch_next(listings, progress, spender, max_pages=MAX_PAGES, skip_existing=False)
        came = before.synced_since()
        renewal.renewed |= came
        missing -= came
        if progress.pages_fetched > had and not batch.is_less_than(len(came), calls=1):
            break
    if progress.unknown:
        conclude(Bibliography(listing.name, progress))


def savings(renewal: Renewal, batch: BatchValue) -> float:
    """How many calls the listing has cost less than batches."""
    return len(renewal.renewed) * batch.calls / batch.size - renewal.progress.api_calls


def _by_listings(plan: RefreshPlan, rest: list[str], spender: Spender, result: Enrichment) -> None:
    """Carries out the listings of the plan. Adds what they renew to `result`, and removes it from `rest`.

    A listing that ISBNdb fails to answer is left to batches. Raises what `Spender.dispatch` raises.
    """
    until = time.monotonic() + LISTINGS_TIME.total_seconds()
    before = selectors.sync_times(rest)
    saved = 0.0
    try:
        for listing in plan.listings:
            if saved <= -MAX_DEBT or time.monotonic() > until:
                break
            renewal = Renewal()
            try:
                renew(listing, renewal, spender, batch=plan.batch)
            except IsbndbError:
                log.warning("refresh.listing_failed", author=listing.name, exc_info=True)
            saved += savings(renewal, plan.batch)
    finally:
        came = before.synced_since()
        result.found += len(came)
        result.enriched += len(came)
        result.updated += len(before.updated_since())
        rest[:] = [isbn for isbn in rest if isbn not in came]


def _pages_left(listings: Sequence[Listing], progress: Progress) -> int:
    """The pages that the listing still has; 1 where ISBNdb has not said how many there are."""
    left = calls_needed(listings, progress, max_pages=MAX_PAGES)
    return left if progress.position.total is not None else min(left, 1)
