"""Sends the queue: several batches under way at once, each paid by those who asked for its ISBNs.

A flusher claims a batch in one short transaction, asks ISBNdb for it outside any transaction, and deletes the ISBNs
that are done.
"""

from collections import deque
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q

from alexandria.common.database import patiently
from alexandria.common.heartbeats import heartbeats
from enrichment.books.decoding import Answer
from enrichment.exceptions import ENDINGS, EnrichmentStopped, IsbndbPageTooLarge
from enrichment.gateway.asking import ask_each
from enrichment.gateway.questions import Exchanged, Question, batch_of
from enrichment.models import Asker, QueuedIsbn, QueueState
from enrichment.models.queue import MAX_ATTEMPTS
from enrichment.selectors.books import fresh_editions, remembered_misses
from enrichment.selectors.queue import UNDER_WAY, get_payers, is_flush_due, why_nothing_is_sent
from enrichment.services.enrich import Enrichment, add_answer
from enrichment.services.prices import PROBE_ISBNS, probe
from enrichment.services.queue import PATIENCE, delete, lock
from enrichment.services.queue_batches import Batch, claim_batch, renew
from enrichment.services.stop_reasons import (
    FIRST_PAUSE,
    MAX_PAUSE,
    STOPS,
    first_pause,
    pause_after,
    public_message,
    stop_reason,
)
from quota.database import QuotaNow
from quota.exceptions import QuotaError
from quota.selectors.prices import is_probe_due
from quota.spending import spending

log = structlog.get_logger(__name__)

MAX_OUTAGE = timedelta(minutes=30)
"""So long a flusher waits for the database, to give back what it has claimed. After that, the end of the lease does."""

MAX_BATCHES = 150
"""Maximum number of batches in one flush: about a minute at three a second. The next flush sends the rest."""

# The pause after an attempt is the same as in `pause_after`: it doubles with each attempt, up to a maximum.
_PUT_OFF = """
    UPDATE enrichment_queuedisbn AS queued SET
        claim = NULL,
        held_until = CASE WHEN attempts < %(max_attempts)s
            THEN quota_now() + least(%(max_pause)s::interval, %(first_pause)s::interval * power(2, attempts - 1)) END,
        last_error = failure.error
    FROM unnest(%(isbns)s::text[], %(errors)s::text[]) AS failure (isbn13, error)
    WHERE queued.isbn13 = failure.isbn13"""


@dataclass
class Flush:
    """The result of one flush: the batches that were answered, what they brought, and the reason if it ended early."""

    batches: int = 0
    isbns: int = 0
    """ISBNs in these batches."""
    enrichment: Enrichment = field(default_factory=Enrichment)
    stopped_reason: str | None = None


def flush(*, source: str = "") -> Flush:
    """Sends every full batch of ISBNDB_BATCH_SIZE, and a smaller one when an ISBN is due.

    `source`: the purpose, for the journal. Each batch is filled from the consumers that ask, in turn, and paid by them.
    ISBNs for which nobody can pay stay. ISBNs whose books have become known leave the queue first. Any number of
    flushers can run at the same time: no ISBN is in two batches.

    When the quota ends the flush, or nobody can pay for what is due, it returns with a `stopped_reason`, and the ISBNs
    stay in the queue. Every other end raises EnrichmentStopped with the Flush and one of ENDINGS. Unless that is a
    QuotaError, the ISBNs of the batches that failed lose one attempt and the queue pauses.
    """
    flushing = _Flushing(source)
    if is_flush_due(get_payers()):
        _drop_known()
    with heartbeats(flushing.renew):
        try:
            flushing.measure_price()
            with closing(ask_each(flushing.next_question)) as exchanges:
                for exchanged in exchanges:
                    flushing.take(exchanged)
        except ENDINGS as error:
            flushing.stop(error)
        finally:
            flushing.give_back()
    return flushing.end()


class _Flushing:
    """The state of one flush."""

    def __init__(self, source: str) -> None:
        self.result = Flush()
        self.error: Exception | None = None
        """What ended the flush, one of ENDINGS."""
        self._source = source
        self._refused: set[str] = set()
        self._claimed = 0
        self._ready: deque[Batch] = deque()
        """Claimed and not asked for yet: halves of a batch that was too large, and what a probe has left."""
        self._open: list[Batch] = []
        """Claimed and not done yet."""
        self._asked: dict[Question[Answer], Batch] = {}

    def measure_price(self) -> None:
        """Lets two ISBNs of the first batch measure the price of a batch while it is unknown. Their consumer pays."""
        if not is_probe_due() or (batch := self._next_batch()) is None:
            return
        self._ready.append(batch)
        consumer, isbns = next(iter(batch.isbns_of.items()))
        first = isbns[:PROBE_ISBNS]
        tally = self.result.enrichment
        with spending(consumer=consumer, operation="queue", calls=0, source=self._source) as spender:
            try:
                answer = probe(first, spender)
            except ENDINGS as error:
                if not isinstance(error, QuotaError):
                    self._fail(self._ready.pop(), error)
                raise
            finally:
                tally.api_calls += spender.calls_spent
        if answer is None:
            return
        self._open.remove(self._ready.pop())
        if rest := batch.isbns[len(first) :]:
            self._open.append(batch.part(rest))
            self._ready.append(self._open[-1])
        self._store(batch.part(first), answer)

    def next_question(self) -> Question[Answer] | None:
        """The next batch, when its payers have reserved the price of it."""
        while self.error is None and (batch := self._ready.popleft() if self._ready else self._next_batch()):
            refused = batch.payer.hold()
            if refused:
                self._refused.update(refused)
                left_out = [isbn for slug in refused for isbn in batch.isbns_of[slug]]
                _release(batch, left_out)
                self._open.remove(batch)
                batch = batch.without(refused)
                if not batch.isbns:
                    continue
                self._open.append(batch)
            question = batch_of(batch.isbns, batch.payer)
            self._asked[question] = batch
            return question
        return None

    def take(self, exchanged: Exchanged[Answer]) -> None:
        """Stores an answer. A batch that was too large is asked for in halves. Any other failure ends the flush."""
        batch = self._asked.pop(exchanged.question)
        self._open.remove(batch)
        self.result.enrichment.api_calls += batch.payer.calls_spent
        if exchanged.answer is not None:
            try:
                self._store(batch, exchanged.answer)
            except ENDINGS as error:
                self._fail(batch, error)
        elif isinstance(exchanged.failure, IsbndbPageTooLarge):
            isbns = batch.isbns
            halves = [batch.part(isbns[: len(isbns) // 2]), batch.part(isbns[len(isbns) // 2 :])]
            self._open += halves
            self._ready += halves
        elif exchanged.failure is not None:
            self._fail(batch, exchanged.failure)

    def renew(self) -> bool:
        """Keeps what is claimed: after the death of the flusher, others can send it soon."""
        if self._open:
            renew([*self._open])
        return True

    def stop(self, error: Exception) -> None:
        """Keeps what ended the flush. Unless that is the quota, the batches that were sent lose an attempt."""
        self.error = self.error or error
        for batch in self._asked.values():
            spent = batch.payer.calls_spent
            self.result.enrichment.api_calls += spent
            if spent and not isinstance(error, QuotaError):
                self._open.remove(batch)
                self._fail(batch, error)

    def give_back(self) -> None:
        """Releases what is claimed and not done. It loses no attempt, and its reservations go back."""
        for batch in self._open:
            batch.payer.done()
            _release(batch, batch.isbns)
        self._open.clear()

    def end(self) -> Flush:
        """The result, with the reason if the flush ended early; or raises EnrichmentStopped."""
        patiently(self._record_end, patience=MAX_OUTAGE)
        if self.error is not None and not isinstance(self.error, STOPS):
            raise EnrichmentStopped(self.result, self.error) from self.error
        return self.result

    def _record_end(self) -> None:
        error = self.error
        if error is None:
            reason = why_nothing_is_sent(get_payers()) if self.result.batches < MAX_BATCHES else ""
            self.result.stopped_reason = reason or None
        else:
            log.warning("queue.stopped", error=str(error))
            self.result.stopped_reason = stop_reason(error)
            if not isinstance(error, QuotaError):
                _pause_queue(error)
        still = Q() if error is not None else Q(paused_until=None) | Q(paused_until__lte=QuotaNow())
        QueueState.objects.filter(still).update(stopped_reason=self.result.stopped_reason or "")

    def _next_batch(self) -> Batch | None:
        if self._claimed >= MAX_BATCHES:
            return None
        payers = get_payers()
        refused = [pk for pk, allowance in payers.allowances.items() if allowance.consumer.slug in self._refused]
        batch = claim_batch(payers.without(refused), source=self._source)
        if batch is not None:
            self._claimed += 1
            self._open.append(batch)
        return batch

    def _store(self, batch: Batch, answer: Answer) -> None:
        """Stores the books. Done ISBNs leave the queue; those that cannot be stored are tried later."""
        isbns = batch.isbns
        failed = add_answer(isbns, answer, self.result.enrichment)
        self.result.isbns += len(isbns)
        self.result.batches += 1
        _put_off(batch, failed, due_after=PATIENCE[QueuedIsbn.Priority.LOW])
        delete(QueuedIsbn.objects.filter(isbn13__any_of=isbns).exclude(isbn13__any_of=failed))
        QueueState.objects.update(flushed_at=QuotaNow(), stopped_reason="", failures=0, paused_until=None)
        log.info("queue.flushed", isbns=len(isbns), failed=len(failed))

    def _fail(self, batch: Batch, error: Exception) -> None:
        """Holds the ISBNs of a batch without an answer, and lets the flush end when all others have come in."""
        self.error = self.error or error
        _put_off(batch, dict.fromkeys(batch.isbns, public_message(error)), first=first_pause(error))


def _pause_queue(error: Exception) -> None:
    """Lets the queue pause after a failed flush: longer with each one in a row."""
    with transaction.atomic(durable=True):
        if (state := QueueState.objects.select_for_update(no_key=True).first()) is not None:
            failures = state.failures + 1
            QueueState.objects.update(failures=failures, paused_until=QuotaNow() + pause_after(failures, error))


def _release(batch: Batch, isbns: list[str]) -> None:
    """Ends the claim of ISBNs that were not sent. They lose no attempt."""

    def release() -> None:
        with transaction.atomic(durable=True):
            ours = lock(QueuedIsbn.objects.filter(claim=batch.claim, isbn13__any_of=isbns))
            QueuedIsbn.objects.filter(isbn13__any_of=ours).update(
                claim=None, held_until=None, attempts=F("attempts") - 1
            )

    patiently(release, patience=MAX_OUTAGE)


def _put_off(
    batch: Batch, failed: Mapping[str, str], *, first: timedelta = FIRST_PAUSE, due_after: timedelta | None = None
) -> None:
    """Holds failed ISBNs of the batch, longer with each attempt. `failed`: the reason for each ISBN-13.

    `first`: how long after the first attempt. `due_after`: the time until they are worth a request of their own again.
    Without it they are due when the hold ends.
    """

    def put_off() -> None:
        with transaction.atomic(durable=True), connection.cursor() as cursor:
            isbns = lock(QueuedIsbn.objects.filter(claim=batch.claim, isbn13__any_of=failed))
            parameters: dict[str, Any] = {
                "isbns": isbns,
                "errors": [failed[isbn][:1000] for isbn in isbns],
                "max_attempts": MAX_ATTEMPTS,
                "first_pause": first,
                "max_pause": MAX_PAUSE,
            }
            cursor.execute(_PUT_OFF, parameters)
            if due_after is not None:
                Asker.objects.filter(queued__isbn13__any_of=isbns).update(due_at=QuotaNow() + due_after)

    if failed:
        patiently(put_off, patience=MAX_OUTAGE)


def _drop_known() -> None:
    """Removes ISBNs that became known since they were queued: the book was stored, or ISBNdb did not know it."""
    stored = Exists(fresh_editions().filter(isbn13=OuterRef("isbn13")))
    missed = Exists(remembered_misses().filter(isbn13=OuterRef("isbn13")))
    delete(QueuedIsbn.objects.filter(Q(stored) | Q(missed)).exclude(UNDER_WAY))
