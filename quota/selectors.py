"""Everything that only reads the quota."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Sum

from quota.database import ask, reachable
from quota.models import Call, ConsumerUsage, DailyLedger, Reservation

MIDNIGHT_GUARD = timedelta(seconds=2)
"""As quota_midnight_guard() in SQL."""


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
    now: datetime

    @property
    def remaining(self) -> int:
        return max(0, self.safety_limit - self.used - self.reserved)

    @property
    def percentage_used(self) -> int:
        return 100 * self.used // self.safety_limit

    @property
    def reset_at(self) -> datetime:
        """The next midnight UTC."""
        return datetime.combine(self.day + timedelta(days=1), time(), tzinfo=UTC)

    @property
    def seconds_to_reset(self) -> int:
        """Rounded up, so that a client who waits so long does not come early."""
        return -((self.now - self.reset_at) // timedelta(seconds=1))

    @property
    def can_make_calls(self) -> bool:
        """Whether a call would be granted to a consumer with neither floor nor budget."""
        is_open = self.closed_reason is None and self.reset_at - self.now > MIDNIGHT_GUARD
        return self.enforcement == "observe" or (self.remaining > 0 and is_open)


def get_status() -> QuotaStatus:
    """Today's quota; before today's ledger is open, what it would be opened with. Raises QuotaUnavailable."""
    now, today, *ledger = ask(
        """
        SELECT moment, quota_day(moment), daily_limit, safety_limit, used, reserved, max_rps, closed_at, closed_reason
        FROM (SELECT quota_now() AS moment OFFSET 0) AS clock LEFT JOIN quota_dailyledger ON day = quota_day(moment)
        """
    )
    if ledger[0] is None:
        ledger = [
            settings.QUOTA_DAILY_LIMIT,
            settings.QUOTA_DAILY_LIMIT - settings.QUOTA_SAFETY_BUFFER,
            *(0, 0, settings.QUOTA_MAX_RPS, None, ""),
        ]
    daily_limit, safety_limit, used, reserved, max_rps, closed_at, closed_reason = ledger
    return QuotaStatus(
        day=today,
        daily_limit=daily_limit,
        safety_limit=safety_limit,
        used=used,
        reserved=reserved,
        max_rps=max_rps,
        closed_reason=None if closed_at is None else closed_reason,
        enforcement=settings.QUOTA_ENFORCEMENT,
        now=now,
    )


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
