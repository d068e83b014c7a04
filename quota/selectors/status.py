"""The quota of a day: its figures, the limits it is opened with, and whether the figures add up."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Sum

from quota.database import ask, reachable
from quota.models import Call, ConsumerUsage, DailyLedger, DayLimits, Reconciliation, Reservation, Switches
from quota.models.ledger import REQUESTS

log = structlog.get_logger(__name__)

# OFFSET 0 keeps the planner from asking the clock twice.
_STATUS = """
    SELECT moment, quota_day(moment), quota_enforces(p_default => %(enforcement)s),
        coalesce((SELECT harvest_enabled FROM quota_switches), true), quota_midnight_guard(),
        daily_limit, safety_limit, used, reserved, requests, max_rps, quota_pace(max_rps), closed_at, closed_reason,
        CASE WHEN paused_until > moment THEN paused_until END, paused_reason
    FROM (SELECT quota_now() AS moment OFFSET 0) AS clock LEFT JOIN quota_dailyledger ON day = quota_day(moment)"""


def begin_of(day: date) -> datetime:
    """The midnight at which a UTC day begins."""
    return datetime.combine(day, time(), tzinfo=UTC)


@dataclass(frozen=True)
class QuotaStatus:
    """One day's quota. The figures are calls; `percentage_used` is of the safety limit, rounded down."""

    day: date
    daily_limit: int
    safety_limit: int
    used: int
    reserved: int
    requests: int
    """Requests dispatched today. Each costs its price in calls."""
    max_rps: int
    pace: timedelta
    """The time between two requests."""
    midnight_guard: timedelta
    """The time before and after midnight UTC in which nothing is sent."""
    closed_reason: str | None
    enforcement: str
    harvest_enabled: bool
    now: datetime
    paused_until: datetime | None = None
    """Nothing is sent before, as ISBNdb asked us, or because its answers cannot be stored. None: no pause."""
    paused_reason: str | None = None

    @property
    def remaining(self) -> int:
        """What is free. A closed day has nothing."""
        return max(0, self.safety_limit - self.used - self.reserved) if self.closed_reason is None else 0

    @property
    def percentage_used(self) -> int:
        return 100 * self.used // max(1, self.safety_limit)

    @property
    def reset_at(self) -> datetime:
        """The next midnight UTC."""
        return begin_of(self.day + timedelta(days=1))

    @property
    def seconds_to_reset(self) -> int:
        """Rounded up, so that a client that waits so long does not come early."""
        return -((self.now - self.reset_at) // timedelta(seconds=1))

    @property
    def midnight_is_near(self) -> bool:
        """Whether midnight is so near that nothing is sent."""
        return self.reset_at - self.now <= self.midnight_guard

    @property
    def can_make_calls(self) -> bool:
        """Whether a call would be granted to a consumer with no floor and no budget."""
        if self.paused_until is not None:
            return False
        return self.enforcement == "observe" or (self.remaining > 0 and not self.midnight_is_near)

    @property
    def seconds_paused(self) -> int:
        """How long the pause still lasts, rounded up; 0 without one."""
        return 0 if self.paused_until is None else -((self.now - self.paused_until) // timedelta(seconds=1))


def get_switches() -> Switches:
    """The switches as they are now; an empty row when none is stored yet. Raises QuotaUnavailable."""
    with reachable():
        return Switches.objects.first() or Switches()


def effective_limits() -> DayLimits:
    """The limits that the next ledger is opened with: the switches, or the environment where they are empty.

    Each figure is checked when it is set, but the other may change later. If the buffer is no longer below the daily
    limit, one call a day is left, and the log has an error.
    """
    limits = get_switches().day_limits()
    if limits.safety_buffer < limits.daily_limit:
        return limits
    log.error("quota.buffer_not_below_limit", daily_limit=limits.daily_limit, safety_buffer=limits.safety_buffer)
    return replace(limits, safety_buffer=limits.daily_limit - 1)


def get_status() -> QuotaStatus:
    """Today's quota; before today's ledger is open, the figures that it would open with. Raises QuotaUnavailable."""
    now, today, enforces, harvest_enabled, midnight_guard, *ledger = ask(
        _STATUS, {"enforcement": settings.QUOTA_ENFORCEMENT}
    )
    if ledger[0] is None:
        limits = effective_limits()
        [pace] = ask("SELECT quota_pace(max_rps => %(max_rps)s)", {"max_rps": limits.max_rps})
        safety_limit = limits.daily_limit - limits.safety_buffer
        ledger = [limits.daily_limit, safety_limit, 0, 0, 0, limits.max_rps, pace, None, "", None, ""]
    daily_limit, safety_limit, used, reserved, requests, max_rps, pace, closed_at, closed_reason, *pause = ledger
    return QuotaStatus(
        day=today,
        daily_limit=daily_limit,
        safety_limit=safety_limit,
        used=used,
        reserved=reserved,
        requests=requests,
        max_rps=max_rps,
        pace=pace,
        midnight_guard=midnight_guard,
        closed_reason=None if closed_at is None else closed_reason,
        enforcement="enforce" if enforces else "observe",
        harvest_enabled=harvest_enabled,
        now=now,
        paused_until=pause[0],
        paused_reason=None if pause[0] is None else pause[1],
    )


def calls_spent(*, source: str) -> int:
    """The calls dispatched so far, on any day, from reservations of that `source`. Raises QuotaUnavailable."""
    with reachable():
        return int(Reservation.objects.filter(source=source).aggregate(calls=Sum("dispatched", default=0))["calls"])


def drift_of(day: date) -> int:
    """The calls added to a day's ledger because ISBNdb's own counter was higher. Raises QuotaUnavailable."""
    with reachable():
        raised = Reconciliation.objects.filter(ledger=day).aggregate(calls=Sum("raised_by", default=0))
    return int(raised["calls"])


def last_reconciliation(day: date) -> Reconciliation | None:
    """The day's last comparison of ISBNdb's counter with ours; None before the first. Raises QuotaUnavailable."""
    with reachable():
        return Reconciliation.objects.filter(ledger=day).first()


def sold_today(day: date) -> int | None:
    """Calls a day that ISBNdb sells us, by its last answer of the day that was used; None before the first.

    Raises QuotaUnavailable.
    """
    with reachable():
        return Reconciliation.objects.filter(ledger=day, ignored="").values_list("total", flat=True).first()


def key_refused_at() -> datetime | None:
    """When ISBNdb last refused our key; None when it has answered a request since. Raises QuotaUnavailable."""
    answered = (Call.Outcome.OK, Call.Outcome.NOT_FOUND)
    with reachable():
        refused = Call.objects.filter(outcome=Call.Outcome.REFUSED).first()
        if refused is None or refused.status not in {401, 403}:
            return None
        # Only of that day: after a refusal weeks ago, the query need not read all calls since.
        since = Call.objects.filter(ledger=refused.ledger_id, pk__gt=refused.pk, outcome__in=answered)
        return None if since.exists() else refused.dispatched_at


@dataclass(frozen=True)
class Discrepancy:
    """A figure that does not equal the sum of its rows."""

    what: str
    figure: int
    rows: int


def check_ledger(day: date) -> list[Discrepancy]:
    """Recomputes the day's totals from the journal, the usages and the reservations; empty when all of them agree."""
    with reachable(), transaction.atomic():
        with connection.cursor() as cursor:  # one snapshot for all figures
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        ledger = DailyLedger.objects.get(pk=day)
        usage = _by_consumer(ConsumerUsage.objects.filter(ledger=day).values_list("consumer__slug", "used", "requests"))
        journal = _by_consumer(
            Call.objects.filter(ledger=day)
            .values_list("consumer__slug")
            .order_by()
            .annotate(calls_of=Sum("calls"), requests_of=REQUESTS)
        )
        reserved = Reservation.objects.filter(ledger=day, state="open").aggregate(
            calls=Sum("calls", default=0), dispatched=Sum("dispatched", default=0)
        )
    pairs = [
        ("used", ledger.used, sum(calls for calls, _ in journal.values())),
        ("requests", ledger.requests, sum(requests for _, requests in journal.values())),
        ("reserved", ledger.reserved, reserved["calls"] - reserved["dispatched"]),
    ]
    for slug in sorted(usage | journal):
        (used, requests), (calls_of, requests_of) = usage.get(slug, (0, 0)), journal.get(slug, (0, 0))
        pairs += [(f"used by {slug}", used, calls_of), (f"requests of {slug}", requests, requests_of)]
    return [Discrepancy(what, figure, rows) for what, figure, rows in pairs if figure != rows]


def _by_consumer(rows: Iterable[tuple[str, int, int]]) -> dict[str, tuple[int, int]]:
    """Calls and requests by the consumer's slug."""
    return {slug: (calls, requests) for slug, calls, requests in rows}
