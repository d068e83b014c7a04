"""Everything that only reads the quota."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Sum

from quota.database import ask, reachable
from quota.models import Call, ConsumerUsage, DailyLedger, Reconciliation, Reservation, Switches

log = structlog.get_logger(__name__)

MIDNIGHT_GUARD = timedelta(seconds=2)
"""As quota_midnight_guard() in SQL."""

SECONDS_APART = 1.05
"""Between two calls at one call a second, as quota_pace() in SQL."""


def begin_of(day: date) -> datetime:
    """The midnight with which a UTC day begins."""
    return datetime.combine(day, time(), tzinfo=UTC)


@dataclass(frozen=True)
class QuotaStatus:
    """One day's quota. All figures are calls; `percentage_used` is of the safety limit, rounded down."""

    day: date
    daily_limit: int
    safety_limit: int
    used: int
    reserved: int
    max_rps: int
    closed_reason: str | None
    enforcement: str
    harvest_enabled: bool
    now: datetime

    @property
    def remaining(self) -> int:
        return max(0, self.safety_limit - self.used - self.reserved)

    @property
    def percentage_used(self) -> int:
        return 100 * self.used // max(1, self.safety_limit)

    @property
    def reset_at(self) -> datetime:
        """The next midnight UTC."""
        return begin_of(self.day + timedelta(days=1))

    @property
    def seconds_to_reset(self) -> int:
        """Rounded up, so that a client who waits so long does not come early."""
        return -((self.now - self.reset_at) // timedelta(seconds=1))

    @property
    def midnight_is_near(self) -> bool:
        """So near that nothing is sent."""
        return self.reset_at - self.now <= MIDNIGHT_GUARD

    @property
    def can_make_calls(self) -> bool:
        """Whether a call would be granted to a consumer with neither floor nor budget."""
        is_open = self.closed_reason is None and not self.midnight_is_near
        return self.enforcement == "observe" or (self.remaining > 0 and is_open)


@dataclass(frozen=True)
class Limits:
    """What a ledger is opened with: calls a day, calls of these that are never touched, calls a second."""

    daily_limit: int
    safety_buffer: int
    max_rps: int


def get_switches() -> Switches:
    """The run-time settings as they are now; those of a new row, all empty, before anybody has set one."""
    with reachable():
        return Switches.objects.first() or Switches()


def effective_limits() -> Limits:
    """The limits that the next ledger is opened with: what the switches say, or else what the environment says.

    Each of them is checked by itself when it is set, but not against what the other becomes later: a buffer that is
    no longer below the daily limit leaves one call a day, and an error in the log.
    """
    limits = chosen_limits(get_switches())
    if limits.safety_buffer < limits.daily_limit:
        return limits
    log.error("quota.buffer_not_below_limit", daily_limit=limits.daily_limit, safety_buffer=limits.safety_buffer)
    return replace(limits, safety_buffer=limits.daily_limit - 1)


def chosen_limits(switches: Switches) -> Limits:
    """What the switches say, or else what the environment says, whether it makes sense together or not."""

    def chosen(switch: int | None, default: int) -> int:
        return default if switch is None else switch

    return Limits(
        daily_limit=chosen(switches.daily_limit, settings.QUOTA_DAILY_LIMIT),
        safety_buffer=chosen(switches.safety_buffer, settings.QUOTA_SAFETY_BUFFER),
        max_rps=chosen(switches.max_rps, settings.QUOTA_MAX_RPS),
    )


def get_status() -> QuotaStatus:
    """Today's quota; before today's ledger is open, what it would be opened with. Raises QuotaUnavailable."""
    now, today, enforces, harvest_enabled, *ledger = ask(
        """
        SELECT moment, quota_day(moment), quota_enforces(%s),
            coalesce((SELECT harvest_enabled FROM quota_switches), true),
            daily_limit, safety_limit, used, reserved, max_rps, closed_at, closed_reason
        FROM (SELECT quota_now() AS moment OFFSET 0) AS clock LEFT JOIN quota_dailyledger ON day = quota_day(moment)
        """,
        [settings.QUOTA_ENFORCEMENT],
    )
    if ledger[0] is None:
        limits = effective_limits()
        ledger = [limits.daily_limit, limits.daily_limit - limits.safety_buffer, 0, 0, limits.max_rps, None, ""]
    daily_limit, safety_limit, used, reserved, max_rps, closed_at, closed_reason = ledger
    return QuotaStatus(
        day=today,
        daily_limit=daily_limit,
        safety_limit=safety_limit,
        used=used,
        reserved=reserved,
        max_rps=max_rps,
        closed_reason=None if closed_at is None else closed_reason,
        enforcement="enforce" if enforces else "observe",
        harvest_enabled=harvest_enabled,
        now=now,
    )


def calls_spent(*, source: str) -> int:
    """The calls dispatched so far, on any day, from the reservations of that `source`. Raises QuotaUnavailable."""
    with reachable():
        return int(Reservation.objects.filter(source=source).aggregate(calls=Sum("dispatched", default=0))["calls"])


def drift_of(day: date) -> int:
    """The calls that were put on a day's ledger because ISBNdb's own counter was higher. Raises QuotaUnavailable."""
    with reachable():
        raised = Reconciliation.objects.filter(ledger=day).aggregate(calls=Sum("raised_by", default=0))
    return int(raised["calls"])


def last_reconciliation(day: date) -> Reconciliation | None:
    """ISBNdb's own counter as it was last held against ours on a day; None before. Raises QuotaUnavailable."""
    with reachable():
        return Reconciliation.objects.filter(ledger=day).first()


def key_charged() -> bool | None:
    """Whether ISBNdb charges GET /key, when its answers could last tell; None before. Raises QuotaUnavailable."""
    with reachable():
        told = Reconciliation.objects.filter(key_charged__isnull=False).first()
    return told.key_charged if told else None


def key_refused_at() -> datetime | None:
    """When ISBNdb last did not accept our key; None when it has answered since. Raises QuotaUnavailable."""
    answered = (Call.Outcome.OK, Call.Outcome.NOT_FOUND)
    with reachable():
        refused = Call.objects.filter(outcome=Call.Outcome.REFUSED).first()
        if refused is None or refused.status not in {401, 403}:
            return None
        # Of the day and not of all time: a key that was refused weeks ago costs no walk through what came after.
        since = Call.objects.filter(ledger=refused.ledger_id, pk__gt=refused.pk, outcome__in=answered)
        return None if since.exists() else refused.dispatched_at


@dataclass(frozen=True)
class Discrepancy:
    """A figure that does not equal what the rows behind it sum up to."""

    what: str
    figure: int
    rows: int


def check_ledger(day: date) -> list[Discrepancy]:
    """Recomputes the day's totals from the journal, the usages and the reservations; empty when all agree."""
    with reachable(), transaction.atomic():
        with connection.cursor() as cursor:  # one snapshot for all that is compared
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        ledger = DailyLedger.objects.get(pk=day)
        usage = dict(ConsumerUsage.objects.filter(ledger=day).values_list("consumer__slug", "used"))
        journal = dict(
            Call.objects.filter(ledger=day).values_list("consumer__slug").order_by().annotate(total=Sum("calls"))
        )
        set_aside = Reservation.objects.filter(ledger=day, state="open").aggregate(
            calls=Sum("calls", default=0), dispatched=Sum("dispatched", default=0)
        )
    pairs = [
        ("used", ledger.used, sum(journal.values())),
        ("reserved", ledger.reserved, set_aside["calls"] - set_aside["dispatched"]),
    ]
    pairs += [(f"used by {slug}", usage.get(slug, 0), journal.get(slug, 0)) for slug in sorted(usage | journal)]
    return [Discrepancy(what, figure, rows) for what, figure, rows in pairs if figure != rows]
