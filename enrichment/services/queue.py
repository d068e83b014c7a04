"""The queue: many small requests become few full batches.

A flusher claims a batch in one short transaction, asks ISBNdb for it outside any transaction, and deletes the ISBNs
that are done. Everybody locks queued ISBNs in the order of the ISBNs, so there is no deadlock.
"""

import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from enrichment import selectors
from enrichment.exceptions import ENDINGS, EnrichmentStopped, IsbndbPageTooLarge
from enrichment.gateway.asking import MAX_ASK_TIME, ask_each
from enrichment.isbn.parsing import InvalidEntry, parse_many
from enrichment.models import QueuedIsbn, QueueState
from enrichment.models.queue import MAX_ATTEMPTS
from enrichment.selectors.queue import FAILED, UNDER_WAY
from enrichment.services.enrich import Batches, Enrichment, add_answer
from enrichment.services.prices import PROBE_ISBNS, probe
from enrichment.services.stop_reasons import FIRST_PAUSE, MAX_PAUSE, STOPS, pause_after, public_message, stop_reason
from quota.database import QuotaNow
from quota.exceptions import ConsumerUnknown, QuotaError
from quota.models import Consumer
from quota.selectors.prices import batch_size_for
from quota.spending import spending

log = structlog.get_logger(__name__)

PATIENCE = {
    QueuedIsbn.Priority.HIGH: timedelta(seconds=10),
    QueuedIsbn.Priority.NORMAL: timedelta(seconds=60),
    QueuedIsbn.Priority.LOW: timedelta(hours=1),
}
"""How long an ISBN waits for its batch to fill."""

LEASE = max(timedelta(minutes=10), MAX_ASK_TIME + timedelta(minutes=2))
"""How long a claim holds: longer than a request with its retries, which wait for the pace, and the storing."""

MAX_BATCHES = 20
"""Maximum number of batches in one flush. The next flush sends the rest."""

# An ISBN that has used all its attempts starts from the beginning; any other keeps its place.
_HAS_FAILED = "(queued.attempts >= %(max_attempts)s AND coalesce(queued.held_until <= EXCLUDED.asked_at, true))"
# Returns for each changed row whether the ISBN did not wait before: its `asked_at` is then the time of this statement.
# The statement also locks the rows that the last WHERE leaves unchanged, in the same order.
_ENQUEUE = f"""
    WITH clock AS MATERIALIZED (SELECT quota_now() AS moment)
    INSERT INTO enrichment_queuedisbn AS queued (
        isbn13, priority, consumer_id, source, asked_at, due_at, attempts, last_error
    )
    SELECT isbn13, %(priority)s, %(consumer_id)s, %(source)s, moment, moment + %(patience)s, 0, ''
    FROM clock, unnest(%(isbns)s::text[]) AS wanted (isbn13)
    ORDER BY isbn13
    ON CONFLICT (isbn13) DO UPDATE SET
        priority = greatest(queued.priority, EXCLUDED.priority),
        asked_at = CASE WHEN {_HAS_FAILED} THEN EXCLUDED.asked_at ELSE queued.asked_at END,
        due_at = CASE WHEN {_HAS_FAILED} THEN EXCLUDED.due_at ELSE least(queued.due_at, EXCLUDED.due_at) END,
        attempts = CASE WHEN {_HAS_FAILED} THEN 0 ELSE queued.attempts END
    WHERE EXCLUDED.priority > queued.priority OR EXCLUDED.due_at < queued.due_at OR {_HAS_FAILED}
    RETURNING asked_at = (SELECT moment FROM clock)"""  # noqa: S608 (only _HAS_FAILED is inserted)
# The pause after an attempt is the same as in `pause_after`: it doubles with each attempt, up to a maximum.
_PUT_OFF = """
    UPDATE enrichment_queuedisbn AS queued SET
        claim = NULL,
        held_until = CASE WHEN attempts < %(max_attempts)s
            THEN quota_now() + least(%(max_pause)s::interval, %(first_pause)s::interval * power(2, attempts - 1)) END,
        due_at = coalesce(quota_now() + %(due_after)s::interval, due_at),
        last_error = failure.error
    FROM unnest(%(isbns)s::text[], %(errors)s::text[]) AS failure (isbn13, error)
    WHERE queued.isbn13 = failure.isbn13"""


@dataclass(frozen=True)
class Accepted:
    """What happened to the values of one request. valid = queued + already_queued + already_fresh + not_found."""

    requested: int
    """Number of values given."""
    valid: int
    """Number of distinct ISBNs among them."""
    invalid: list[InvalidEntry]
    queued: int
    already_queued: int
    """Waited before this request, for any caller."""
    already_fresh: int
    not_found: int
    """Unknown to ISBNdb when last asked, and too recently to ask again."""


@dataclass
class Flush:
    """The result of one flush: the batches sent, what they brought, and the reason if it ended early."""

    batches: int = 0
    enrichment: Enrichment = field(default_factory=lambda: Enrichment(requested=0, valid=0, invalid=[]))
    stopped_reason: str | None = None


def enqueue(values: Iterable[str | int], *, priority: QueuedIsbn.Priority, consumer: str, source: str = "") -> Accepted:
    """Queues the ISBNs, in any form, that ISBNdb has to be asked for. Never spends a call.

    `consumer`: the slug of the caller. `source`: the purpose. An ISBN that waits already stays one row, with the higher
    priority and the earlier due time of the two requests. An ISBN that failed starts from the beginning.

    Raises ConsumerUnknown.
    """
    given = list(values)
    parsed = parse_many(given)
    consumer_id = Consumer.objects.filter(slug=consumer).values_list("pk", flat=True).first()
    if consumer_id is None:
        raise ConsumerUnknown(f"There is no consumer {consumer!r}.")
    known = selectors.known_isbns(parsed.valid)
    new = 0
    if known.wanted:
        parameters: dict[str, Any] = {
            "isbns": sorted(known.wanted),
            "priority": priority.value,
            "patience": PATIENCE[priority],
            "consumer_id": consumer_id,
            "source": source,
            "max_attempts": MAX_ATTEMPTS,
        }
        with transaction.atomic(durable=True), connection.cursor() as cursor:
            cursor.execute(_ENQUEUE, parameters)
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
    """Records that a flusher looked at the queue; returns whether a batch is worth a request now."""
    QueueState.objects.update_or_create(id=1, defaults={"looked_at": QuotaNow()})
    return selectors.is_flush_due()


def flush(*, consumer: str, source: str = "") -> Flush:
    """Sends every full batch of ISBNDB_BATCH_SIZE, and a smaller one when an ISBN is due.

    `consumer`: the slug of the payer. `source`: the purpose, for the journal. A batch that is due is filled up with
    other ISBNs that wait, and cut to what the free calls pay for. ISBNs whose books have become known leave the queue
    first. Any number of flushers can run at the same time: no ISBN is in two batches.

    When the quota ends the flush, it returns with a `stopped_reason`, and the ISBNs stay in the queue. Every other end
    raises EnrichmentStopped with the Flush and one of ENDINGS. Unless that is a QuotaError, the ISBNs of the batch
    lose one attempt and the queue pauses.
    """
    result = Flush()
    if selectors.is_flush_due():
        _drop_known()
    while result.batches < MAX_BATCHES:
        claim = uuid.uuid4()
        try:
            batch = _claim(claim, size=batch_size_for(consumer) if selectors.is_flush_due() else 0)
            if not batch:
                break
            _send(batch, claim, result, consumer=consumer, source=source)
        except ENDINGS as error:
            result.stopped_reason = stop_reason(error)
            _give_back(claim, error)
            if not isinstance(error, STOPS):
                raise EnrichmentStopped(result, error) from error
            return result
        result.batches += 1
    QueueState.objects.exclude(paused_until__gt=QuotaNow()).update(stopped_reason="")
    return result


def retry(isbns: Collection[str]) -> int:
    """Resets the attempts of those ISBN-13s that have failed and makes them due now; returns how many."""
    with transaction.atomic(durable=True):
        failed = _lock(QueuedIsbn.objects.filter(FAILED, isbn13__in=isbns))
        return QueuedIsbn.objects.filter(isbn13__in=failed).update(
            attempts=0, claim=None, held_until=None, due_at=QuotaNow()
        )


def drop(isbns: Collection[str]) -> int:
    """Removes the ISBN-13s from the queue; returns how many were in it."""
    return _delete(QueuedIsbn.objects.filter(isbn13__in=isbns))


def _claim(claim: uuid.UUID, *, size: int) -> list[str]:
    """Claims the next batch, of up to `size` ISBNs, for the time of LEASE.

    Returns its ISBN-13s; an empty list when none is worth a request.
    """
    with transaction.atomic(durable=True):
        # `look` locks the row of the queue, so flushers pick one after the other.
        if not look():
            return []
        batch = _lock(QueuedIsbn.objects.filter(isbn13__in=selectors.next_batch(size)))
        QueuedIsbn.objects.filter(isbn13__in=batch).update(
            claim=claim, held_until=QuotaNow() + LEASE, attempts=F("attempts") + 1
        )
    return batch


def _send(batch: list[str], claim: uuid.UUID, result: Flush, *, consumer: str, source: str) -> None:
    """Asks ISBNdb for the batch and stores the books. Done ISBNs leave the queue; single failures are tried later."""
    tally = result.enrichment
    with spending(consumer=consumer, operation="queue", calls=0, source=source) as spender:
        try:
            failed: dict[str, str] = {}
            rest = batch
            if (first := probe(batch, spender)) is not None:
                failed |= add_answer(batch[:PROBE_ISBNS], first, tally)
                rest = batch[PROBE_ISBNS:]
            parts = iter([rest])
            batches = Batches(lambda: next(parts, []))
            for exchanged in ask_each(lambda: batches.next_question(spender)):
                asked = batches.asked_by(exchanged)
                if exchanged.answer is not None:
                    failed |= add_answer(asked, exchanged.answer, tally)
                elif isinstance(exchanged.failure, IsbndbPageTooLarge):
                    batches.halve(asked)
                elif exchanged.failure is not None:
                    raise exchanged.failure
        finally:
            tally.api_calls += spender.calls_spent
    tally.requested += len(batch)
    tally.valid += len(batch)
    _put_off(claim, failed, due_after=PATIENCE[QueuedIsbn.Priority.LOW])
    _delete(QueuedIsbn.objects.filter(isbn13__in=batch).exclude(isbn13__in=failed))
    QueueState.objects.update(flushed_at=QuotaNow(), stopped_reason="", failures=0, paused_until=None)
    log.info("queue.flushed", isbns=len(batch), failed=len(failed))


def _give_back(claim: uuid.UUID, error: Exception) -> None:
    """Releases the claim of a batch without an answer. A refusal by the quota costs the ISBNs no attempt."""
    ours = QueuedIsbn.objects.filter(claim=claim)
    log.warning("queue.stopped", error=str(error))
    if isinstance(error, QuotaError):
        with transaction.atomic(durable=True):
            QueuedIsbn.objects.filter(isbn13__in=_lock(ours)).update(
                claim=None, held_until=None, attempts=F("attempts") - 1
            )
        QueueState.objects.update(stopped_reason=stop_reason(error))
        return
    _put_off(claim, dict.fromkeys(ours.values_list("isbn13", flat=True), public_message(error)))
    with transaction.atomic(durable=True):
        state = QueueState.objects.select_for_update(no_key=True).get(id=1)
        QueueState.objects.update(
            stopped_reason=stop_reason(error),
            failures=F("failures") + 1,
            paused_until=QuotaNow() + pause_after(state.failures + 1),
        )


def _put_off(claim: uuid.UUID, failed: Mapping[str, str], *, due_after: timedelta | None = None) -> None:
    """Holds the failed ISBNs of the claim, longer with each attempt. `failed`: the reason for each ISBN-13.

    `due_after`: the time until they are worth a request of their own again. Without it they are due when the hold ends.
    """
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        isbns = _lock(QueuedIsbn.objects.filter(claim=claim, isbn13__in=failed))
        parameters: dict[str, Any] = {
            "isbns": isbns,
            "errors": [failed[isbn][:1000] for isbn in isbns],
            "due_after": due_after,
            "max_attempts": MAX_ATTEMPTS,
            "first_pause": FIRST_PAUSE,
            "max_pause": MAX_PAUSE,
        }
        cursor.execute(_PUT_OFF, parameters)


def _drop_known() -> None:
    """Removes ISBNs that became known since they were queued: the book was stored, or ISBNdb did not know it."""
    stored = Exists(selectors.fresh_editions().filter(isbn13=OuterRef("isbn13")))
    missed = Exists(selectors.remembered_misses().filter(isbn13=OuterRef("isbn13")))
    _delete(QueuedIsbn.objects.filter(Q(stored) | Q(missed)).exclude(UNDER_WAY))


def _delete(queued: QuerySet[QueuedIsbn]) -> int:
    with transaction.atomic(durable=True):
        count, _ = QueuedIsbn.objects.filter(isbn13__in=_lock(queued)).delete()
    return count


def _lock(queued: QuerySet[QueuedIsbn]) -> list[str]:
    """Locks the rows until the transaction ends, in the same order as `enqueue`; returns their ISBN-13s."""
    return list(queued.select_for_update(no_key=True).order_by("isbn13").values_list("isbn13", flat=True))
