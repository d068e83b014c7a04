"""The queue: many small requests become few full batches. queue_flush.py sends them.

Everybody locks queued ISBNs in the order of the ISBNs, so there is no deadlock.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from enrichment.exceptions import QueueFull
from enrichment.isbn.reading import GivenIsbns, read
from enrichment.models import Asker, QueuedIsbn
from enrichment.models.queue import MAX_ATTEMPTS
from enrichment.selectors.books import KnownIsbns, known_isbns
from enrichment.selectors.queue import FAILED
from enrichment.services.outcomes import OfGiven, Outcome, outcomes
from quota.database import QuotaNow
from quota.exceptions import ConsumerUnknown
from quota.models import Consumer

PATIENCE = {
    QueuedIsbn.Priority.HIGH: timedelta(seconds=10),
    QueuedIsbn.Priority.NORMAL: timedelta(seconds=60),
    QueuedIsbn.Priority.LOW: timedelta(hours=1),
}
"""How long an ISBN waits for its batch to fill."""

# An ISBN that has used all its attempts starts from the beginning. Returns the ISBNs that did not wait before. The
# statement also locks the rows that the last WHERE leaves unchanged, in the same order.
_QUEUE = """
    WITH clock AS MATERIALIZED (SELECT quota_now() AS moment)
    INSERT INTO enrichment_queuedisbn AS queued (isbn13, asked_at, attempts, last_error)
    SELECT isbn13, moment, 0, '' FROM clock, unnest(%(isbns)s::text[]) AS wanted (isbn13)
    ORDER BY isbn13
    ON CONFLICT (isbn13) DO UPDATE SET asked_at = EXCLUDED.asked_at, attempts = 0
    WHERE queued.attempts >= %(max_attempts)s AND coalesce(queued.held_until <= EXCLUDED.asked_at, true)
    RETURNING isbn13"""
_ASK_ANEW = """
    UPDATE enrichment_asker SET due_at = quota_now() + %(patience)s WHERE isbn13 = ANY (%(new)s::text[])"""
# Returns whether the consumer did not ask for the ISBN before: xmax is 0 in a row that was inserted.
_ASK = """
    WITH clock AS MATERIALIZED (SELECT quota_now() AS moment)
    INSERT INTO enrichment_asker AS asker (isbn13, consumer_id, priority, source, asked_at, due_at)
    SELECT isbn13, %(consumer_id)s, %(priority)s, %(source)s, moment, moment + %(patience)s
    FROM clock, unnest(%(isbns)s::text[]) AS wanted (isbn13)
    ON CONFLICT (isbn13, consumer_id) DO UPDATE SET
        priority = greatest(asker.priority, EXCLUDED.priority), due_at = least(asker.due_at, EXCLUDED.due_at)
    RETURNING xmax = 0"""
# Of ISBNs that are locked, so it sees all their askers: nobody adds one without the lock.
_DELETE = """
    WITH askers AS (DELETE FROM enrichment_asker WHERE isbn13 = ANY (%(isbns)s))
    DELETE FROM enrichment_queuedisbn WHERE isbn13 = ANY (%(isbns)s)"""


@dataclass(frozen=True)
class Accepted(OfGiven):
    """What happened to the values of one request. valid = queued + already_queued + already_fresh + not_found."""

    given: GivenIsbns
    known: KnownIsbns
    new: set[str]
    """The ISBN-13s that did not wait before this request, for any caller."""

    @property
    def queued(self) -> int:
        return len(self.new)

    @property
    def already_queued(self) -> int:
        return len(self.known.wanted) - len(self.new)

    @property
    def already_fresh(self) -> int:
        return len(self.known.fresh)

    @property
    def not_found(self) -> int:
        """Unknown to ISBNdb when last asked, and too recently to ask again."""
        return len(self.known.missed)

    @property
    def items(self) -> list[Outcome]:
        """What became of each ISBN and value, in the order given."""
        states = dict.fromkeys(self.known.wanted, "already_queued") | dict.fromkeys(self.new, "queued")
        states |= dict.fromkeys(self.known.fresh, "already_fresh") | dict.fromkeys(self.known.missed, "not_found")
        return outcomes(self.given, states, {})


def enqueue(
    values: Iterable[object] | GivenIsbns, *, priority: QueuedIsbn.Priority, consumer: str, source: str = ""
) -> Accepted:
    """Queues the ISBNs, in any form or as `read` returns them, that ISBNdb has to be asked for. Never spends a call.

    `consumer`: the slug of the caller, who pays for its ISBNs when they are sent. `source`: the purpose. If the caller
    has asked for an ISBN that still waits, the higher priority and the earlier due time hold. An ISBN that failed
    starts from the beginning.

    Raises ConsumerUnknown, and QueueFull when the caller would have too many ISBNs in the queue.
    """
    given = read(values)
    if not Consumer.objects.filter(slug=consumer).exists():
        raise ConsumerUnknown(f"There is no consumer {consumer!r}.")
    known = known_isbns(given.valid)
    new = _enqueue(sorted(known.wanted), priority, consumer, source) if known.wanted else set()
    return Accepted(given, known, new)


def retry(isbns: Collection[str]) -> int:
    """Resets the attempts of those ISBN-13s that have failed and makes them due now; returns how many."""
    with transaction.atomic(durable=True):
        failed = lock(QueuedIsbn.objects.filter(FAILED, isbn13__any_of=isbns))
        Asker.objects.filter(queued__isbn13__any_of=failed).update(due_at=QuotaNow())
        return QueuedIsbn.objects.filter(isbn13__any_of=failed).update(attempts=0, claim=None, held_until=None)


def drop(isbns: Collection[str]) -> int:
    """Removes the ISBN-13s of all askers from the queue; returns how many were in it."""
    return delete(QueuedIsbn.objects.filter(isbn13__any_of=isbns))


def lock(queued: QuerySet[QueuedIsbn]) -> list[str]:
    """Locks the rows until the transaction ends, in the same order as `enqueue`; returns their ISBN-13s."""
    return list(queued.select_for_update(no_key=True).order_by("isbn13").values_list("isbn13", flat=True))


def delete(queued: QuerySet[QueuedIsbn]) -> int:
    """Deletes the ISBNs with all who asked for them; returns how many ISBNs."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        isbns = lock(queued)
        cursor.execute(_DELETE, {"isbns": isbns})
    return len(isbns)


def _enqueue(isbns: list[str], priority: QueuedIsbn.Priority, consumer: str, source: str) -> set[str]:
    """Queues the ISBN-13s for the consumer; returns those that did not wait before. Raises QueueFull."""
    parameters: dict[str, Any] = {
        "isbns": isbns,
        "priority": priority.value,
        "patience": PATIENCE[priority],
        "source": source,
        "max_attempts": MAX_ATTEMPTS,
    }
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        # The lock of the consumer lets its requests count one after the other.
        payer = Consumer.objects.select_for_update(no_key=True).get(slug=consumer)
        parameters["consumer_id"] = payer.pk
        cursor.execute(_QUEUE, parameters)
        parameters["new"] = new = [isbn for (isbn,) in cursor.fetchall()]
        cursor.execute(_ASK_ANEW, parameters)
        cursor.execute(_ASK, parameters)
        asked = sum(is_new for (is_new,) in cursor.fetchall())
        if asked and (queued := Asker.objects.filter(consumer=payer).count()) > settings.MAX_QUEUED_PER_CONSUMER:
            raise QueueFull(allowed=settings.MAX_QUEUED_PER_CONSUMER, used=queued - asked, asked=asked)
    return set(new)
