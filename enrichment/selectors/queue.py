"""What waits in the queue, and what is sent next."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, F, Min, Q
from django.db.models.functions import Greatest
from django.db.models.lookups import GreaterThan

from enrichment.models import QueuedIsbn, QueueState
from enrichment.models.queue import FLUSHER, MAX_ATTEMPTS
from quota.database import QuotaNow
from quota.exceptions import ConsumerUnknown
from quota.selectors.allowances import why_no_call
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


def is_flush_due() -> bool:
    """Whether a batch is full or an ISBN is due, and the queue is not paused."""
    if QueueState.objects.filter(paused_until__gt=QuotaNow()).exists():
        return False
    claimable = QueuedIsbn.objects.filter(CLAIMABLE)
    return (
        claimable.filter(due_at__lte=QuotaNow()).exists()
        or claimable[: settings.ISBNDB_BATCH_SIZE].count() == settings.ISBNDB_BATCH_SIZE
    )


def next_batch(size: int) -> list[str]:
    """The ISBN-13s of the next batch: first those that are due, then the others; high priorities first in both."""
    is_early = GreaterThan(F("due_at"), QuotaNow())
    in_turn = QueuedIsbn.objects.filter(CLAIMABLE).order_by(is_early, "-priority", "due_at", "isbn13")
    return list(in_turn.values_list("isbn13", flat=True)[:size])


@dataclass(frozen=True)
class QueueFailure:
    """An ISBN that has used all its attempts."""

    isbn: str
    error: str


@dataclass(frozen=True)
class QueueOverview:
    """The queue and the quota at one moment. Every count is a number of distinct ISBNs."""

    quota: QuotaStatus
    by_priority: dict[str, int]
    """ISBNs that wait, including those under way."""
    under_way: int
    claimable: int
    failed: int
    latest_failed: list[QueueFailure]
    oldest_asked_at: datetime | None
    next_flush_at: datetime | None
    """When the next batch is worth a request; None when nothing waits. A new ISBN can make it earlier."""
    next_flush_why: str | None
    """full_batch, high_due, normal_due, low_due, retry, or paused (after a failure)."""
    looked_at: datetime | None
    flushed_at: datetime | None
    stopped_reason: str | None
    """Why the last flush ended early: the limit that refused it, or what failed."""
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


def get_queue() -> QueueOverview:
    """What waits, what is sent next, and what prevents it. Raises QuotaUnavailable."""
    status = get_status()
    state = QueueState.objects.first()
    figures = QueuedIsbn.objects.aggregate(
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
    at, why = _next_flush(status.now, state, figures["claimable"])
    return QueueOverview(
        quota=status,
        by_priority=by_priority,
        latest_failed=[QueueFailure(isbn, error) for isbn, error in failed[:10]],
        next_flush_at=at,
        next_flush_why=why,
        looked_at=state.looked_at if state else None,
        flushed_at=state.flushed_at if state else None,
        stopped_reason=(state.stopped_reason or None) if state else None,
        warning=_warning(status, state),
        **figures,
    )


def queue_warning(status: QuotaStatus) -> str | None:
    """The `warning` of `get_queue`, without counting the queue. Raises QuotaUnavailable."""
    return _warning(status, QueueState.objects.first())


def _warning(status: QuotaStatus, state: QueueState | None) -> str | None:
    if not status.harvest_enabled:
        return "Harvesting is switched off. The queue waits until somebody switches it on."
    if state is None or status.now - state.looked_at > MAX_UNATTENDED:
        return "No worker processes the queue. Check that a worker and beat are running."
    if not status.can_make_calls:
        return f"Today's quota is used up or closed. The queue waits until {status.reset_at:%H:%M} UTC."
    if refused := _refused(status):
        return f"The queue waits: {refused}"
    if state.stopped_reason:
        return f"The last flush was stopped: {state.stopped_reason}."
    return None


def _refused(status: QuotaStatus) -> str:
    """Why the quota would refuse a call to the cron that sends batches; "" when it would not."""
    try:
        return why_no_call(FLUSHER, status)
    except ConsumerUnknown as unknown:
        return f"{unknown} Run manage.py migrate to create it."


def _next_flush(now: datetime, state: QueueState | None, claimable: int) -> tuple[datetime | None, str | None]:
    free_at = Greatest("due_at", "held_until")
    first = QueuedIsbn.objects.filter(WAITING).exclude(UNDER_WAY).annotate(free_at=free_at).order_by("free_at").first()
    if first is None:
        return None, None
    at, why = first.free_at, f"{first.get_priority_display()}_due" if first.free_at == first.due_at else "retry"
    if claimable >= settings.ISBNDB_BATCH_SIZE:
        at, why = now, "full_batch"
    if state and state.paused_until and state.paused_until > max(at, now):
        return state.paused_until, "paused"
    return max(at, now), why
