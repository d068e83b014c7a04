"""Refreshes ISBNs by the cheapest plan (refresh_plans.py): by the listings of authors, and the rest in batches."""

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import timedelta

import structlog

from enrichment.books.decoding import Answer
from enrichment.exceptions import ENDINGS, EnrichmentStopped, IsbndbError
from enrichment.gateway.asking import ask_each
from enrichment.gateway.questions import Exchanged, Question
from enrichment.isbn.reading import GivenIsbns, read
from enrichment.selectors.jobs import MAX_PAGES
from enrichment.selectors.refreshes import sync_times
from enrichment.services.bibliographies import remember_author, walk_of
from enrichment.services.enrich import Enrichment, ask_in_batches, ask_once, counted
from enrichment.services.listings import Progress
from enrichment.services.refresh_plans import AuthorListing, BatchValue, RefreshPlan, plan_refresh
from quota.spending import Payer, Spender, spending

log = structlog.get_logger(__name__)

LISTINGS_TIME = timedelta(seconds=20)
"""While somebody waits for the answer, no listing begins later than this after the first."""

MAX_DEBT = 3
"""When listings have cost so many calls more than batches, no more of them are tried. Pages under way count as lost."""


def refresh_isbns(values: Iterable[object] | GivenIsbns, *, consumer: str, source: str = "") -> Enrichment:
    """As `enrich_isbns` with `refresh`, but editions that are stored already can come by the listings of their authors.

    Listings begin within LISTINGS_TIME. All other ISBNs, and what the listings did not bring, go into batches. It
    reserves what the plan costs, and more when the listings disappoint.
    """
    result = Enrichment(read(values))

    def ask(rest: list[str]) -> None:
        plan = plan_refresh(rest)
        with (
            spending(consumer=consumer, operation="batch-direct", calls=plan.calls, source=source) as spender,
            counted(spender, result),
        ):
            if plan.listings:
                _by_listings(plan, rest, spender, result)
            ask_in_batches(rest, spender, result)

    ask_once(result, ask, refresh=True)
    return result


class Renewal:
    """What a listing does for the wanted editions. Its `progress` counts all books on its pages."""

    def __init__(self, listing: AuthorListing, batch: BatchValue) -> None:
        self.listing = listing
        self.renewed: set[str] = set()
        """The wanted editions that came and are stored."""
        self.walk = walk_of(listing.name, max_pages=MAX_PAGES, skip_existing=False)
        self._batch = batch
        self._missing = set(listing.isbns)
        self._disappointing = False

    @property
    def progress(self) -> Progress:
        return self.walk.progress

    @property
    def pays(self) -> bool:
        """Whether the pages that are missing are cheaper than batches, as far as is known.

        They are not when a page has renewed no more than a batch does for the same call, or when a batch is as cheap
        for what is still missing.
        """
        if self._disappointing or self.walk.failure:
            return False
        return self._batch.is_less_than(len(self._missing), calls=self.walk.pages_known)

    @property
    def is_over(self) -> bool:
        return self.walk.is_complete or not (self.walk.under_way or self.pays)

    def next_question(self, payer: Payer) -> Question[Answer] | None:
        return self.walk.next_question(payer) if self.pays else None

    def take(self, exchanged: Exchanged[Answer]) -> IsbndbError | None:
        """Stores a page and adds what has come to `renewed`. Returns what `Walk.take` returns.

        ISBNdb may list the author by another spelling or not at all, so what is missing is no miss.
        """
        had, before = self.progress.pages_fetched, sync_times(self._missing)
        failure = self.walk.take(exchanged)
        came = before.synced_since()
        self.renewed |= came
        self._missing -= came
        if self.progress.pages_fetched > had and not self._batch.is_less_than(len(came), calls=1):
            self._disappointing = True
        return failure


class Renewals:
    """Renews editions by the listings of several authors, with pages of several of them under way, for `ask_each`.

    `next_renewal` returns the next listing to begin; None when there is none now.
    """

    def __init__(self, next_renewal: Callable[[], Renewal | None]) -> None:
        self.renewed: set[str] = set()
        """The wanted editions that came and are stored."""
        self.enriched = 0
        """All books that are stored now."""
        self._next_renewal = next_renewal
        self._open: list[Renewal] = []
        self._asked: dict[Question[Answer], Renewal] = {}

    @property
    def under_way(self) -> int:
        """How many questions have not come back to `take`."""
        return len(self._asked)

    @property
    def calls_expected(self) -> int:
        """What the listings that have begun are expected to cost from now on, with the pages under way."""
        return sum(renewal.walk.under_way if not renewal.pays else renewal.walk.pages_known for renewal in self._open)

    def next_question(self, payer: Payer) -> Question[Answer] | None:
        """The next page to ask for; None when there is none now. After the next answer there may be one."""
        for renewal in self._open:
            if question := renewal.next_question(payer):
                self._asked[question] = renewal
                return question
        while following := self._next_renewal():
            if question := following.next_question(payer):
                self._open.append(following)
                self._asked[question] = following
                return question
        return None

    def take(self, exchanged: Exchanged[Answer]) -> IsbndbError | None:
        """Stores a page; see `Renewal.take`. Remembers an author whom ISBNdb does not know."""
        renewal = self._asked.pop(exchanged.question)
        before = renewal.progress.enriched
        failure = renewal.take(exchanged)
        self.enriched += renewal.progress.enriched - before
        self.renewed |= renewal.renewed
        if renewal.is_over:
            self._open.remove(renewal)
            if renewal.progress.unknown:
                remember_author(renewal.listing.name, renewal.progress)
        return failure


def refresh_by_listing(listing: AuthorListing, *, batch: BatchValue, consumer: str, source: str = "") -> Renewal:
    """Renews the editions of the listing, as an operation of its own. `consumer`: the slug of the payer.

    Raises EnrichmentStopped with the Renewal so far and one of ENDINGS.
    """
    renewal = Renewal(listing, batch)
    one = iter([renewal])
    renewals = Renewals(lambda: next(one, None))
    try:
        with spending(consumer=consumer, operation="refresh", calls=listing.pages, source=source) as spender:
            try:
                with closing(ask_each(lambda: renewals.next_question(spender))) as exchanges:
                    for exchanged in exchanges:
                        renewals.take(exchanged)
            finally:
                renewal.progress.api_calls = spender.calls_spent
        if renewal.walk.failure:
            raise renewal.walk.failure
    except ENDINGS as error:
        raise EnrichmentStopped(renewal, error) from error
    return renewal


def savings(renewed: int, batch: BatchValue, *, calls: int) -> float:
    """How many calls less than batches listings have cost that have renewed so many editions for `calls`."""
    return renewed * batch.calls / batch.size - calls


def _by_listings(plan: RefreshPlan, rest: list[str], spender: Spender, result: Enrichment) -> None:
    """Carries out the listings of the plan. Adds what they renew to `result`, and removes it from `rest`.

    A listing that ISBNdb fails to answer is left to batches. Raises what `ask_each` raises.
    """
    until = time.monotonic() + LISTINGS_TIME.total_seconds()
    before = sync_times(rest)
    listings = iter(plan.listings)

    def next_renewal() -> Renewal | None:
        saved = savings(len(renewals.renewed), plan.batch, calls=spender.calls_spent)
        if saved <= -MAX_DEBT or time.monotonic() > until:
            return None
        listing = next(listings, None)
        return Renewal(listing, plan.batch) if listing else None

    renewals = Renewals(next_renewal)
    try:
        with closing(ask_each(lambda: renewals.next_question(spender))) as exchanges:
            for exchanged in exchanges:
                if failure := renewals.take(exchanged):
                    log.warning("refresh.listing_failed", path=exchanged.question.request.url.path, exc_info=failure)
    finally:
        came = before.synced_since()
        result.found += len(came)
        result.enriched += len(came)
        result.updated += len(before.updated_since())
        rest[:] = [isbn for isbn in rest if isbn not in came]
