"""What waits in the queue, who can pay for it, and what is sent next."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Count, Exists, Max, Min, OuterRef, Q, QuerySet
from django.db.models.functions import Greatest

from alexandria.common.text import as_people_read
from enrichment.models import Asker, QueuedIsbn, QueueState
from enrichment.models.queue import MAX_ATTEMPTS
from quota.database import QuotaNow, reachable
from quota.models import Consumer
from quota.selectors.allowances import Allowance, allowances
from quota.selectors.status import QuotaStatus, get_status

MAX_UNATTENDED = timedelta(seconds=60)
"""When no flusher has looked at the queue for longer, none is running."""

HELD = Q(held_until__gt=QuotaNow())
UNDER_WAY = HELD & Q(claim__isnull=False)
FREE = Q(held_until=None) | Q(held_until__lte=QuotaNow())
CLAIMABLE = FREE & Q(attempts__lt=MAX_ATTEMPTS)
FAILED = FREE & Q(attempts__gte=MAX_ATTEMPTS)
WAITING = HELD | Q(attempts__lt=MAX_ATTEMPTS)
"""An ISBN is either waiting (under way, held after a failure, or claimable) or failed."""

# Of each consumer, the ISBNs that it wants next: first those that are due; high priorities first in both.
_WANTED_NEXT = """
    WITH clock AS MATERIALIZED (SELECT quota_now() AS moment)
    SELECT consumer.id, next.isbns, next.is_due, next.due_at
    FROM clock, unnest(%(consumers)s::bigint[]) AS consumer (id)
    CROSS JOIN LATERAL (
        SELECT array_agg(isbn13 ORDER BY is_early, priority DESC, due_at, isbn13) AS isbns,
            NOT bool_and(is_early) AS is_due,
            (array_agg(due_at ORDER BY is_early, priority DESC, due_at, isbn13))[1] AS due_at
        FROM (
            SELECT isbn13, is_early, priority, due_at
            FROM (VALUES (false, '-infinity', moment), (true, moment, 'infinity')) AS part (is_early, after, until)
            CROSS JOIN (VALUES (2), (1), (0)) AS own (priority)
            CROSS JOIN LATERAL (  -- by the index: a consumer can have 100,000 ISBNs in the queue
                SELECT isbn13, asker.due_at
                FROM enrichment_asker AS asker JOIN enrichment_queuedisbn AS queued USING (isbn13)
                WHERE asker.consumer_id = consumer.id AND asker.priority = own.priority
                    AND asker.due_at > part.after AND asker.due_at <= part.until AND queued.attempts < %(max_attempts)s
                    AND (queued.held_until IS NULL OR queued.held_until <= moment)
                ORDER BY asker.due_at, isbn13
                LIMIT %(size)s
            ) AS in_turn
            ORDER BY is_early, priority DESC, due_at, isbn13
            LIMIT %(size)s
        ) AS in_order
    ) AS next
    WHERE next.isbns IS NOT NULL
    ORDER BY next.is_due DESC, next.due_at, consumer.id"""


@dataclass(frozen=True)
class Payers:
    """Who asks for queued ISBNs and what each may spend now, by the consumer's primary key."""

    allowances: dict[int, Allowance]

    @property
    def able(self) -> list[int]:
        """Those who can pay for an ISBN now."""
        return [pk for pk, allowance in self.allowances.items() if not allowance.refused_by]

    def most_isbns(self) -> tuple[int, dict[int, int]]:
        """How many ISBNs of a batch all together, and each of the able, can pay for now when each ISBN costs a call."""
        size: int = settings.ISBNDB_BATCH_SIZE
        able = {pk: self.allowances[pk] for pk in self.able}
        together = min((each.quota.remaining for each in able.values() if _is_enforced(each)), default=size)
        return min(size, together), {pk: each.free if _is_enforced(each) else size for pk, each in able.items()}

    def without(self, consumers: Collection[int]) -> "Payers":
        """The others."""
        others = {pk: allowance for pk, allowance in self.allowances.items() if pk not in consumers}
        return Payers(others)


def _is_enforced(allowance: Allowance) -> bool:
    return allowance.quota.enforcement == "enforce"


def get_payers(status: QuotaStatus | None = None) -> Payers:
    """The consumers that ask for queued ISBNs. `status`: today's, where it is known. Raises QuotaUnavailable."""
    with reachable():
        asking = list(Consumer.objects.filter(Exists(Asker.objects.filter(consumer=OuterRef("pk")))))
    return Payers(allowances(asking, status=status) if asking else {})


def is_flush_due(payers: Payers) -> bool:
    """Whether a batch is full or an ISBN is due, of those that somebody can pay for, and the queue is not paused."""
    return not is_paused() and _is_due(payers.able)


def is_paused() -> bool:
    """Whether the queue pauses, because flushes failed."""
    return QueueState.objects.filter(paused_until__gt=QuotaNow()).exists()


def _is_due(consumers: Collection[int]) -> bool:
    return _claimable_for(consumers).filter(due_at__lte=QuotaNow()).exists() or _fill_a_batch(consumers)


def _fill_a_batch(consumers: Collection[int]) -> bool:
    size: int = settings.ISBNDB_BATCH_SIZE
    return _claimable_for(consumers).order_by().values("queued").distinct()[:size].count() == size


def _claimable_for(consumers: Collection[int]) -> QuerySet[Asker]:
    return Asker.objects.filter(consumer__in=consumers, queued__in=QueuedIsbn.objects.filter(CLAIMABLE))


def why_nothing_is_sent(payers: Payers) -> str:
    """The limit or switch for which ISBNs that are due wait, when nobody who asks can pay; "" in every other case."""
    if payers.able:
        return ""
    return next((each.refused_by for pk, each in payers.allowances.items() if _is_due([pk])), "")


@dataclass(frozen=True)
class Wanted:
    """The ISBN-13s that consumers want next: those of each, by its primary key. Who has waited longest is first."""

    isbns_of: dict[int, list[str]]
    is_due: bool
    """Whether an ISBN is due."""

    def fills(self, size: int) -> bool:
        """Whether there are at least so many different ISBNs."""
        return len(set().union(*self.isbns_of.values())) >= size


def wanted_next(consumers: Collection[int], *, size: int) -> Wanted:
    """Up to `size` ISBN-13s that each consumer wants next, in order."""
    with connection.cursor() as cursor:
        parameters: dict[str, Any] = {"consumers": list(consumers), "max_attempts": MAX_ATTEMPTS, "size": size}
        cursor.execute(_WANTED_NEXT, parameters)
        rows: list[tuple[int, list[str], bool, datetime]] = cursor.fetchall()
    return Wanted({consumer: isbns for consumer, isbns, *_ in rows}, is_due=any(is_due for *_, is_due, _ in rows))


@dataclass(frozen=True)
class QueueFailure:
    """An ISBN that has used all its attempts."""

    isbn: str
    error: str


@dataclass(frozen=True)
class WaitingFor:
    """What one consumer has in the queue, and why it is not sent."""

    consumer: str
    isbns: int
    """ISBNs of the consumer that wait, including those under way."""
    refused_by: str | None = None
    """The limit or switch that lets them wait; None when the consumer can pay."""
    why: str | None = None
    """The same, in words for people."""


@dataclass(frozen=True)
class QueueOverview:
    """The queue and the quota at one moment. Every count is a number of distinct ISBNs."""

    quota: QuotaStatus
    by_priority: dict[str, int]
    """ISBNs that wait, including those under way. The highest priority of all who asked counts."""
    under_way: int
    claimable: int
    failed: int
    latest_failed: list[QueueFailure]
    oldest_asked_at: datetime | None
    next_flush_at: datetime | None
    """When the next batch is worth a request; None when nothing waits that somebody can pay for. A new ISBN can make it
    earlier."""
    next_flush_why: str | None
    """full_batch, high_due, normal_due, low_due, retry, or paused (after a failure)."""
    looked_at: datetime | None
    flushed_at: datetime | None
    stopped_reason: str | None
    """Why the last flush ended early: the limit that refused it, or what failed."""
    consumers: list[WaitingFor]
    """Those whose ISBNs wait, the most ISBNs first."""
    warning: str | None
    """Why the queue does not move, in words for people; None while it does."""

    @property
    def depth(self) -> int:
        return sum(self.by_priority.values())

    @property
    def full_batches(self) -> int:
        return self.claimable // settings.ISBNDB_BATCH_SIZE

    @property
    def oldest_age_seconds(self) -> int | None:
        return None if self.oldest_asked_at is None else (self.quota.now - self.oldest_asked_at) // timedelta(seconds=1)

    def of(self, consumer: str) -> WaitingFor:
        """What the consumer (a slug) has in the queue."""
        return next((each for each in self.consumers if each.consumer == consumer), WaitingFor(consumer, isbns=0))


@dataclass(frozen=True)
class QueueGlance:
    """The queue for a caller who has just queued ISBNs. The figures are those of QueueOverview."""

    quota: QuotaStatus
    yours: WaitingFor
    """What the caller has in the queue."""
    depth: int
    next_flush_at: datetime | None
    warning: str | None


def glance_at_queue(consumer: Consumer) -> QueueGlance:
    """What `get_queue` tells the consumer, without joining and sorting the whole queue. Raises QuotaUnavailable."""
    status = get_status()
    payers = get_payers(status)
    state = QueueState.objects.first()
    # What has failed is found by its index, and all others wait.
    failed = QueuedIsbn.objects.filter(FAILED)
    own = Asker.objects.filter(consumer=consumer)
    own_waiting = own.count() - own.filter(queued__in=failed).count()
    allowance = payers.allowances.get(consumer.pk) if own_waiting else None
    next_flush_at, _ = _next_flush(status.now, state, payers)
    return QueueGlance(
        quota=status,
        yours=WaitingFor(consumer.slug, 0) if allowance is None else _waiting_for(allowance, own_waiting),
        depth=QueuedIsbn.objects.count() - failed.count(),
        next_flush_at=next_flush_at,
        warning=_warning(status, state, payers),
    )


def get_queue() -> QueueOverview:
    """What waits, what is sent next, and what prevents it. Raises QuotaUnavailable."""
    status = get_status()
    payers = get_payers(status)
    state = QueueState.objects.first()
    figures = QueuedIsbn.objects.annotate(priority=Max("askers__priority")).aggregate(
        under_way=Count("pk", filter=UNDER_WAY),
        claimable=Count("pk", filter=CLAIMABLE),
        failed=Count("pk", filter=FAILED),
        oldest_asked_at=Min("asked_at", filter=WAITING),
        **{
            f"of_{priority.label}": Count("pk", filter=WAITING & Q(priority=priority))
            for priority in QueuedIsbn.Priority
        },
    )
    by_priority = {priority.label: figures.pop(f"of_{priority.label}") for priority in reversed(QueuedIsbn.Priority)}
    failed = QueuedIsbn.objects.filter(FAILED).order_by("-asked_at").values_list("isbn13", "last_error")
    at, why = _next_flush(status.now, state, payers)
    return QueueOverview(
        quota=status,
        by_priority=by_priority,
        latest_failed=[QueueFailure(isbn, error) for isbn, error in failed[:10]],
        next_flush_at=at,
        next_flush_why=why,
        looked_at=state.looked_at if state else None,
        flushed_at=state.flushed_at if state else None,
        stopped_reason=(state.stopped_reason or None) if state else None,
        consumers=_waiting(payers),
        warning=_warning(status, state, payers),
        **figures,
    )


def queue_warning(status: QuotaStatus) -> str | None:
    """The `warning` of `get_queue`, without counting the queue. Raises QuotaUnavailable."""
    return _warning(status, QueueState.objects.first(), get_payers(status))


def _waiting(payers: Payers) -> list[WaitingFor]:
    waiting = Asker.objects.filter(queued__in=QueuedIsbn.objects.filter(WAITING))
    counts = waiting.order_by().values_list("consumer").annotate(isbns=Count("pk"))
    return [
        _waiting_for(allowance, isbns)
        for pk, isbns in sorted(counts, key=lambda count: (-count[1], count[0]))
        if (allowance := payers.allowances.get(pk))
    ]


def _waiting_for(allowance: Allowance, isbns: int) -> WaitingFor:
    return WaitingFor(
        allowance.consumer.slug, isbns, refused_by=allowance.refused_by or None, why=allowance.why_refused or None
    )


def _warning(status: QuotaStatus, state: QueueState | None, payers: Payers) -> str | None:
    if state is None or status.now - state.looked_at > MAX_UNATTENDED:
        return "No worker processes the queue. Check that a worker and beat are running."
    if status.paused_until is not None:
        return f"Nothing is sent until {as_people_read(status.paused_until, seconds=True)}. {status.paused_reason}"
    if not status.can_make_calls:
        return f"Today's quota is used up or closed. The queue waits until {as_people_read(status.reset_at)}."
    if payers.allowances and not payers.able:
        return "The queue waits: nobody who asks for its ISBNs can pay for them now."
    if state.stopped_reason:
        return f"The last flush was stopped: {state.stopped_reason}."
    return None


def _next_flush(now: datetime, state: QueueState | None, payers: Payers) -> tuple[datetime | None, str | None]:
    if _fill_a_batch(payers.able):  # which is found by the index; what is due first is not
        at, why = now, "full_batch"
    else:
        waiting = QueuedIsbn.objects.filter(WAITING).exclude(UNDER_WAY)
        wanted = Asker.objects.filter(consumer__in=payers.able, queued__in=waiting)
        free_at = Greatest("due_at", "queued__held_until")
        first = wanted.annotate(free_at=free_at).order_by("free_at").first()
        if first is None:
            return None, None
        at, why = first.free_at, f"{first.get_priority_display()}_due" if first.free_at == first.due_at else "retry"
    if state and state.paused_until and state.paused_until > max(at, now):
        return state.paused_until, "paused"
    return max(at, now), why
