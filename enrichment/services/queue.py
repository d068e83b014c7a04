"""The queue: many small wishes become few full calls.

A flusher claims a batch in a short transaction, asks ISBNdb for it outside of any, and deletes what is done. Wishes
are locked in the order of their ISBNs by everybody, so that nobody waits in a circle.
"""

import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from enrichment import selectors
from enrichment.isbn.parsing import InvalidEntry, parse_many
from enrichment.models import QueueState, Wish
from enrichment.models.queue import MOST_ATTEMPTS
from enrichment.selectors.queue import FAILED, UNDER_WAY
from enrichment.services.enrich import ENDINGS, Enrichment, EnrichmentStopped, enrich_batch
from enrichment.services.stop_reasons import FIRST_PAUSE, LONGEST_PAUSE, STOPS, in_our_words, pause_after, stop_reason
from quota.database import QuotaNow
from quota.exceptions import ConsumerUnknown, QuotaError
from quota.models import Consumer
from quota.spending import spending

log = structlog.get_logger(__name__)

PATIENCE = {
    Wish.Priority.HIGH: timedelta(seconds=10),
    Wish.Priority.NORMAL: timedelta(seconds=60),
    Wish.Priority.LOW: timedelta(hours=1),
}
"""How long a wish waits for its batch to fill."""

LEASE = timedelta(minutes=10)
"""How long a claim holds: longer than a call with its retries, each of which may wait for the pace, and storing it."""

MOST_BATCHES = 20
"""In one flush; the next one goes on."""

_HAS_FAILED = "(wish.attempts >= %(most)s AND coalesce(wish.held_until <= EXCLUDED.asked_at, true))"
# `asked_at` tells a wish that is new, or new again after it failed, from one that stood there. Rows that the last WHERE
# leaves alone are locked all the same, in the same order.
_WISH = f"""
    WITH clock AS MATERIALIZED (SELECT quota_now() AS moment)
    INSERT INTO enrichment_wish AS wish (isbn13, priority, consumer_id, source, asked_at, due_at, attempts, last_error)
    SELECT isbn13, %(priority)s, %(consumer)s, %(source)s, moment, moment + %(patience)s, 0, ''
    FROM clock, unnest(%(isbns)s::text[]) AS wanted (isbn13)
    ORDER BY isbn13
    ON CONFLICT (isbn13) DO UPDATE SET
        priority = greatest(wish.priority, EXCLUDED.priority),
        asked_at = CASE WHEN {_HAS_FAILED} THEN EXCLUDED.asked_at ELSE wish.asked_at END,
        due_at = CASE WHEN {_HAS_FAILED} THEN EXCLUDED.due_at ELSE least(wish.due_at, EXCLUDED.due_at) END,
        attempts = CASE WHEN {_HAS_FAILED} THEN 0 ELSE wish.attempts END
    WHERE EXCLUDED.priority > wish.priority OR EXCLUDED.due_at < wish.due_at OR {_HAS_FAILED}
    RETURNING asked_at = (SELECT moment FROM clock)"""  # noqa: S608 (only _HAS_FAILED goes in)
# For each wish what `pause_after` says of all of them.
_PUT_OFF = """
    UPDATE enrichment_wish AS wish SET
        claim = NULL,
        held_until = CASE WHEN attempts < %(most)s
            THEN quota_now() + least(%(longest)s::interval, %(first)s::interval * power(2, attempts - 1)) END,
        due_at = coalesce(quota_now() + %(due_after)s::interval, due_at),
        last_error = failure.error
    FROM unnest(%(isbns)s::text[], %(errors)s::text[]) AS failure (isbn13, error)
    WHERE wish.isbn13 = failure.isbn13"""


@dataclass(frozen=True)
class Accepted:
    """What became of a list of wishes: valid = queued + already_queued + already_fresh + not_found."""

    requested: int
    """Values given."""
    valid: int
    """Distinct ISBNs among them."""
    invalid: list[InvalidEntry]
    queued: int
    already_queued: int
    """Wished for before, by whomever, and still waiting."""
    already_fresh: int
    not_found: int
    """Unknown to ISBNdb when last asked, and not asked for again so soon."""


@dataclass
class Flush:
    """What one flush did: batches sent, what came of them, and why it ended before the queue was served."""

    batches: int = 0
    enrichment: Enrichment = field(default_factory=lambda: Enrichment(requested=0, valid=0, invalid=[]))
    stopped_reason: str | None = None


def wish(values: Iterable[str | int], *, priority: Wish.Priority, consumer: str, source: str = "") -> Accepted:
    """Queues those of the ISBNs, in any form, that would have to be asked for. Never spends a call.

    `consumer`: the slug of who wishes; `source`: what for. An ISBN that waits already, whoever wished for it, stays one
    wish, with the higher priority and the earlier due time of the two; one that failed begins anew.

    Raises ConsumerUnknown.
    """
    given = list(values)
    parsed = parse_many(given)
    wisher = Consumer.objects.filter(slug=consumer).values_list("pk", flat=True).first()
    if wisher is None:
        raise ConsumerUnknown(f"There is no consumer {consumer!r}.")
    known = selectors.known_isbns(parsed.valid)
    new = 0
    if known.wanted:
        what: dict[str, Any] = {
            "isbns": sorted(known.wanted),
            "priority": priority.value,
            "patience": PATIENCE[priority],
            "consumer": wisher,
            "source": source,
            "most": MOST_ATTEMPTS,
        }
        with transaction.atomic(durable=True), connection.cursor() as cursor:
            cursor.execute(_WISH, what)
            new = sum(is_new for (is_new,) in cursor.fetchall())
    return Accepted(
        requested=len(given),
        valid=len(parsed.valid),
        invalid=parsed.invalid,
        queued=new,
        already_queued=len(known.wanted) - new,
        already_fresh=len(known.fresh),
        not_found=len(known.missed),
    )


def look() -> bool:
    """Puts on record that a flusher looks after the queue; returns whether a batch is worth a call now."""
    QueueState.objects.update_or_create(id=1, defaults={"looked_at": QuotaNow()})
    return selectors.is_flush_due()


def flush(*, consumer: str, source: str = "") -> Flush:
    """Sends what is worth a call: full batches of ISBNDB_BATCH_SIZE, and whatever there is when a wish is due.

    `consumer`: the slug of who pays; `source`: what for, for the record. A batch that is due is filled up with
    everything else that waits. Wishes whose books are known by now are dropped first.
    Any number of flushers may run at once: no ISBN is in two batches.

    When the quota ends it, that is a result with a `stopped_reason`, and the wishes stay. Anything else raises
    EnrichmentStopped with the Flush, caused by one of ENDINGS; unless that is a QuotaError, the wishes of the batch
    have one attempt less, and the queue pauses.
    """
    result = Flush()
    if selectors.is_flush_due():
        _drop_known()
    while result.batches < MOST_BATCHES and (batch := _claim(claim := uuid.uuid4())):
        try:
            _send(batch, claim, result, consumer=consumer, source=source)
        except ENDINGS as error:
            result.stopped_reason = stop_reason(error)
            _give_back(claim, error)
            if not isinstance(error, STOPS):
                raise EnrichmentStopped(result) from error
            return result
        result.batches += 1
    QueueState.objects.exclude(paused_until__gt=QuotaNow()).update(stopped_reason="")
    return result


def retry(isbns: Collection[str]) -> int:
    """Gives those of the ISBN-13s that failed all their attempts again, due at once; returns how many."""
    with transaction.atomic(durable=True):
        failed = _lock(Wish.objects.filter(FAILED, isbn13__in=isbns))
        return Wish.objects.filter(isbn13__in=failed).update(attempts=0, claim=None, held_until=None, due_at=QuotaNow())


def drop(isbns: Collection[str]) -> int:
    """Forgets the wishes for the ISBN-13s; returns how many there were."""
    return _delete(Wish.objects.filter(isbn13__in=isbns))


def _claim(claim: uuid.UUID) -> list[str]:
    """Marks the next batch as ours until LEASE is over and returns its ISBN-13s; empty when none is worth a call."""
    with transaction.atomic(durable=True):
        # Its lock lets one flusher pick after the other.
        if not look():
            return []
        batch = _lock(Wish.objects.filter(isbn13__in=selectors.next_batch(settings.ISBNDB_BATCH_SIZE)))
        Wish.objects.filter(isbn13__in=batch).update(
            claim=claim, held_until=QuotaNow() + LEASE, attempts=F("attempts") + 1
        )
    return batch


def _send(batch: list[str], claim: uuid.UUID, result: Flush, *, consumer: str, source: str) -> None:
    """Asks for the batch, stores what comes and ends its wishes; those that failed one by one are put off."""
    tally = result.enrichment
    with spending(consumer=consumer, operation="queue", calls=1, source=source) as spender:
        try:
            failed = enrich_batch(batch, spender, tally)
        finally:
            tally.api_calls += len(spender.dispatched)
    tally.requested += len(batch)
    tally.valid += len(batch)
    _put_off(claim, failed, due_after=PATIENCE[Wish.Priority.LOW])
    _delete(Wish.objects.filter(isbn13__in=batch).exclude(isbn13__in=failed))
    QueueState.objects.update(flushed_at=QuotaNow(), stopped_reason="", failures=0, paused_until=None)
    log.info("queue.flushed", isbns=len(batch), failed=len(failed))


def _give_back(claim: uuid.UUID, error: Exception) -> None:
    """Ends a claim whose batch was not answered. The quota's refusal is not the wishes' fault: no attempt is lost."""
    ours = Wish.objects.filter(claim=claim)
    log.warning("queue.stopped", error=str(error))
    if isinstance(error, QuotaError):
        with transaction.atomic(durable=True):
            Wish.objects.filter(isbn13__in=_lock(ours)).update(claim=None, held_until=None, attempts=F("attempts") - 1)
        QueueState.objects.update(stopped_reason=stop_reason(error))
        return
    _put_off(claim, dict.fromkeys(ours.values_list("isbn13", flat=True), in_our_words(error)))
    with transaction.atomic(durable=True):
        state = QueueState.objects.select_for_update(no_key=True).get(id=1)
        QueueState.objects.update(
            stopped_reason=stop_reason(error),
            failures=F("failures") + 1,
            paused_until=QuotaNow() + pause_after(state.failures + 1),
        )


def _put_off(claim: uuid.UUID, failed: Mapping[str, str], *, due_after: timedelta | None = None) -> None:
    """Holds wishes of the claim that failed, by ISBN-13 with the reason, longer with each attempt.

    `due_after`: when they are worth a call of their own again; without it, as soon as they are no longer held.
    """
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        isbns = _lock(Wish.objects.filter(claim=claim, isbn13__in=failed))
        what: dict[str, Any] = {
            "isbns": isbns,
            "errors": [failed[isbn][:1000] for isbn in isbns],
            "due_after": due_after,
            "most": MOST_ATTEMPTS,
            "first": FIRST_PAUSE,
            "longest": LONGEST_PAUSE,
        }
        cursor.execute(_PUT_OFF, what)


def _drop_known() -> None:
    """Ends wishes that came true by other ways: the book was stored, or ISBNdb did not know it, in the meantime."""
    stored = Exists(selectors.fresh_editions().filter(isbn13=OuterRef("isbn13")))
    missed = Exists(selectors.remembered_misses().filter(isbn13=OuterRef("isbn13")))
    _delete(Wish.objects.filter(Q(stored) | Q(missed)).exclude(UNDER_WAY))


def _delete(wishes: QuerySet[Wish]) -> int:
    with transaction.atomic(durable=True):
        count, _ = Wish.objects.filter(isbn13__in=_lock(wishes)).delete()
    return count


def _lock(wishes: QuerySet[Wish]) -> list[str]:
    """Locks them until the transaction ends, in the order in which `wish` does; returns their ISBN-13s."""
    return list(wishes.select_for_update(no_key=True).order_by("isbn13").values_list("isbn13", flat=True))
