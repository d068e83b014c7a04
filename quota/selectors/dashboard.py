"""What the dashboard shows of the quota: today's use, whether the quota will last, and what is under way.

The journal is read once, and only today's rows. Everything else comes from totals and small indexes.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db.models import DateTimeField, F, Func, Q, Sum, Value

from quota.database import reachable
from quota.limits import LIMITS, Limit
from quota.models import Call, DailyLedger, Reconciliation, Reservation
from quota.models.ledger import REQUESTS
from quota.selectors.days import refusals_of
from quota.selectors.history import usage_history
from quota.selectors.prices import Prices, get_prices
from quota.selectors.status import QuotaStatus, begin_of, get_status

HISTORY_DAYS = 30
SLOT = timedelta(minutes=10)
"""The chart of the day counts calls in slots of this length."""

TOO_EARLY = timedelta(minutes=5)
"""In the first minutes of a day, there are too few calls for a rate."""

ENTERED = (Call.Outcome.EXTERNAL, Call.Outcome.ADJUSTED)
"""Calls that we did not send. The journal has the time when they were found, not when they were made."""

ANSWERED = (Call.Outcome.OK, Call.Outcome.NOT_FOUND)
FAILED = tuple(
    outcome
    for outcome in Call.Outcome
    if outcome not in (*ANSWERED, Call.Outcome.UNKNOWN, Call.Outcome.NOT_SENT, *ENTERED)
)
"""Outcomes of requests that brought no answer. One that is under way or was not sent is neither answered nor failed."""


@dataclass(frozen=True)
class Slot:
    """Ten minutes of today, and the calls sent in them by consumer (a slug)."""

    begins_at: datetime
    calls: dict[str, int]


@dataclass(frozen=True)
class Today:
    """What was sent today. `slots`: those with requests, in order. Figures are calls, unless something else is said."""

    slots: list[Slot]
    sent: int
    requests: int
    entered: int
    """Calls made outside Alexandria or corrected by a person; below 0 when more were taken back."""
    last_hour: int
    """Sent within the last hour, or since midnight."""
    isbns_asked: int
    isbns_found: int
    """Of those asked for."""
    books: int
    """Books in all answers, including lists."""
    errors: dict[Call.Outcome, int]
    """Requests that failed or were not sent, by outcome, the most frequent first."""

    @property
    def books_per_call(self) -> float | None:
        return self.books / self.sent if self.sent else None

    @property
    def hit_rate(self) -> float | None:
        """The share of the requested ISBNs that ISBNdb knew, 0 to 1."""
        return self.isbns_found / self.isbns_asked if self.isbns_asked else None


@dataclass(frozen=True)
class Burn:
    """How fast calls are spent, and what happens if that goes on. `per_hour` is None while it is too early to say.

    Either `runs_out_at` is set, or `left_at_reset`: the calls of the safety limit that will be left at midnight. Both
    are None when nothing is left already.
    """

    per_hour: float | None
    runs_out_at: datetime | None
    left_at_reset: int | None


@dataclass(frozen=True)
class QuotaDashboard:
    status: QuotaStatus
    prices: Prices
    history: list[DailyLedger]
    """The last 30 days, the newest first, with their `usages`. Days without a ledger are left out."""
    today: Today
    burn: Burn
    reservations: list[Reservation]
    """Open reservations, those that end first at the top; at most one more than requested."""
    reconciliation: Reconciliation | None
    """The latest comparison with ISBNdb's own counter, on any day."""
    refusals: dict[Limit, int]
    """Refusals of today by limit, the most frequent first."""


def get_dashboard(*, reservations: int) -> QuotaDashboard:
    """All figures at this moment, with up to one more than `reservations` reservations. Raises QuotaUnavailable."""
    status = get_status()
    history = usage_history(HISTORY_DAYS, today=status.day)
    today, prices = calls_of_today(status), get_prices()
    # Of yesterday too, if they are not closed yet.
    open_now = Reservation.objects.filter(ledger__gte=status.day - timedelta(days=1), state=Reservation.State.OPEN)
    with reachable():
        return QuotaDashboard(
            status=status,
            prices=prices,
            history=history,
            today=today,
            burn=burn_rate(status, last_hour=today.last_hour),
            reservations=list(
                open_now.select_related("consumer").order_by("ledger_id", "expires_at")[: reservations + 1]
            ),
            reconciliation=Reconciliation.objects.select_related("ledger").first(),
            refusals=_refusals(status.day),
        )


def calls_of_today(status: QuotaStatus) -> Today:
    """The sums of the journal of the status's day, in one statement. Raises QuotaUnavailable."""
    midnight = begin_of(status.day)
    slot = Func(Value(SLOT), F("dispatched_at"), Value(midnight), function="date_bin", output_field=DateTimeField())
    by_slot = Call.objects.filter(ledger=status.day).order_by().annotate(slot=slot)
    with reachable():
        rows = list(
            by_slot.values("consumer__slug", "outcome", "slot").annotate(
                sent=Sum("calls"),
                requests=REQUESTS,
                recent=Sum("calls", filter=Q(dispatched_at__gt=status.now - timedelta(hours=1)), default=0),
                asked=Sum("isbns_asked", default=0),
                found=Sum("isbns_found", filter=Q(isbns_asked__isnull=False), default=0),
                books=Sum("isbns_found", default=0),
            )
        )
    ours = [row for row in rows if row["outcome"] not in ENTERED]
    slots: defaultdict[datetime, Counter[str]] = defaultdict(Counter)
    errors: Counter[Call.Outcome] = Counter()
    for row in ours:
        slots[row["slot"]][row["consumer__slug"]] += row["sent"]
        if row["outcome"] in FAILED or row["outcome"] == Call.Outcome.NOT_SENT:
            errors[Call.Outcome(row["outcome"])] += row["requests"]
    return Today(
        slots=[Slot(begins_at, dict(calls)) for begins_at, calls in sorted(slots.items())],
        sent=sum(row["sent"] for row in ours),
        requests=sum(row["requests"] for row in ours),
        entered=sum(row["sent"] for row in rows if row["outcome"] in ENTERED),
        last_hour=sum(row["recent"] for row in ours),
        isbns_asked=sum(row["asked"] for row in ours),
        isbns_found=sum(row["found"] for row in ours),
        books=sum(row["books"] for row in ours),
        errors=dict(errors.most_common()),
    )


def burn_rate(status: QuotaStatus, *, last_hour: int) -> Burn:
    """Computed from the calls of the last hour; in the first hour of a day, from the calls since midnight."""
    elapsed = min(status.now - begin_of(status.day), timedelta(hours=1))
    if elapsed < TOO_EARLY:
        return Burn(None, None, None)
    per_hour = last_hour / (elapsed / timedelta(hours=1))
    left = status.safety_limit - status.used
    if left <= 0 or status.closed_reason is not None:
        return Burn(per_hour, None, None)
    will_spend = round(per_hour * ((status.reset_at - status.now) / timedelta(hours=1)))
    if will_spend >= left:
        return Burn(per_hour, status.now + timedelta(hours=left / per_hour), None)
    return Burn(per_hour, None, left - will_spend)


def _refusals(day: date) -> dict[Limit, int]:
    counts = refusals_of(day).order_by().values_list("limit").annotate(Sum("times"))
    return {LIMITS[limit]: times for limit, times in sorted(counts, key=lambda row: (-row[1], row[0]))}
