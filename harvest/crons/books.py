"""The crons that spend calls on books. Each gets the most books out of a call and can be ended anywhere."""

from datetime import date, timedelta

from django.conf import settings

from enrichment import selectors
from enrichment.gateway.listings import fetch_updates
from enrichment.services import EnrichmentStopped, enrich_isbns
from enrichment.services.listings import Position
from enrichment.services.queue import flush
from enrichment.services.releases import (
    MOST_PAGES,
    BadToken,
    NewReleases,
    Wanted,
    enrich_new_releases,
    read_token,
)
from harvest.crons.work import Work
from harvest.exceptions import RunStopped
from quota.spending import spending

MOST_BATCHES = 100
"""Full batches that one run of stale-refresh sends at the most."""

MOST_FEED_PAGES = 100
"""Pages of the update feed that one run reads at the most; the next run goes on from there."""

FEED_HISTORY = timedelta(days=7)
"""ISBNdb's feed goes back no further."""


def new_releases(work: Work) -> None:
    """Stores the books of this and last month, or first goes on where an earlier run stopped.

    Cursor: {"resume"}, a token of enrichment.services.releases; empty once all is done.
    """
    wanted, position = _where_to_go_on(work)
    try:
        result = enrich_new_releases(wanted, consumer=work.consumer, position=position, source=work.source)
    except EnrichmentStopped as stopped:
        _take_over(stopped.result, work)
        raise
    _take_over(result, work)
    if result.stopped_reason:
        raise RunStopped(result.stopped_reason)


def stale_refresh(work: Work) -> None:
    """Asks again for the editions beyond EDITION_FRESH_DAYS, oldest first, in full batches only."""
    size = settings.ISBNDB_BATCH_SIZE
    stale = selectors.stale_isbns(MOST_BATCHES * size)
    full = len(stale) // size
    work.idle = full == 0
    for number in range(full):
        _refresh(stale[number * size : (number + 1) * size], work)


def update_feed(work: Work) -> None:
    """Asks again for what ISBNdb says has changed, of the ISBNs that anybody has ever asked for.

    They go out in full batches; the last one is filled up with the oldest stale editions.

    Cursor: {"since"}, the day from which on the feed is read next; of a pass that was stopped also {"page", "pending",
    "began"}: the page to go on with, ISBNs that were read and not asked for yet, and the day that becomes `since`.
    """
    oldest = work.today - FEED_HISTORY
    since = max(oldest, date.fromisoformat(work.cursor.get("since", oldest.isoformat())))
    began = work.cursor.get("began", work.today.isoformat())
    page = work.cursor.get("page", 1) if since.isoformat() == work.cursor.get("since") else 1
    pending: list[str] = work.cursor.get("pending", [])
    size = settings.ISBNDB_BATCH_SIZE
    asked: set[str] = set()  # a book that changed on several days comes up several times

    for _ in range(MOST_FEED_PAGES):
        while len(pending) >= size:
            _refresh(pending[:size], work)
            asked.update(pending[:size])
            pending = pending[size:]
            work.cursor = work.cursor | {"pending": pending}
        with spending(consumer=work.consumer, operation="update-feed", calls=1, source=work.source) as spender:
            changed = fetch_updates(spender, since=since, page=page)
        if not changed:
            break
        known = selectors.isbns_heard_of(changed) - asked.union(pending)
        pending = pending + [isbn for isbn in changed if isbn in known]
        page += 1
        work.cursor = {"since": since.isoformat(), "began": began, "page": page, "pending": pending}
    else:
        return
    if pending:
        company = [isbn for isbn in selectors.stale_isbns(size) if isbn not in set(pending)]
        _refresh((pending + company)[:size], work)
    work.cursor = {"since": began}


def queue_flush(work: Work) -> None:
    """Sends what waits in the queue and is worth a call."""
    try:
        result = flush(consumer=work.consumer, source=work.source)
    except EnrichmentStopped as stopped:
        work.books += stopped.result.enrichment.enriched
        raise
    work.books += result.enrichment.enriched
    work.idle = result.batches == 0
    if result.stopped_reason:
        raise RunStopped(result.stopped_reason)


def _refresh(isbns: list[str], work: Work) -> None:
    try:
        result = enrich_isbns(isbns, consumer=work.consumer, source=work.source, refresh=True)
    except EnrichmentStopped as stopped:
        work.books += stopped.result.enriched
        raise
    work.books += result.enriched


def _where_to_go_on(work: Work) -> tuple[Wanted, Position | None]:
    if "resume" in work.cursor:
        try:
            return read_token(work.cursor["resume"])
        except BadToken:  # SECRET_KEY was changed meanwhile
            pass
    this_month = work.today.replace(day=1)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    return Wanted(start_month=last_month, end_month=this_month, max_pages_per_month=MOST_PAGES), None


def _take_over(result: NewReleases, work: Work) -> None:
    work.books += result.progress.enriched
    work.cursor = {"resume": result.resume} if result.resume else {}
