"""The use of each consumer: what is free for it and why no more, what was used by day, the journal."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

from django.db.models import QuerySet

from quota.database import reachable
from quota.exceptions import ConsumerUnknown, QuotaRefused
from quota.models import Call, Consumer, ConsumerUsage, DailyLedger, Refusal
from quota.selectors.status import MIDNIGHT_GUARD, SECONDS_APART, QuotaStatus, get_status

LAST_REFUSALS = 10
HARVEST_OFF = "harvest_off"


@dataclass(frozen=True)
class Allowance:
    """What one consumer may spend today, in calls.

    `free`: what one operation of it could set aside now. `limited_by`: the limit that would refuse one call more, or
    "harvest_off". When observing nothing is refused, and both are told all the same.
    """

    consumer: Consumer
    used: int
    reserved: int
    free: int
    limited_by: str
    quota: QuotaStatus
    refusals: list[Refusal] = field(default_factory=list)


def allowances(consumers: Iterable[Consumer]) -> dict[int, Allowance]:
    """What each of the consumers may spend today, by its primary key, without its refusals. Raises QuotaUnavailable.

    It takes the same few queries for one as for all.
    """
    status = get_status()
    with reachable():
        usages = ConsumerUsage.objects.filter(ledger=status.day)
        use = {usage.consumer_id: (usage.used, usage.reserved) for usage in usages}
    found = {}
    for consumer in consumers:
        used, reserved = use.get(consumer.pk, (0, 0))
        stopped = (0, HARVEST_OFF) if _harvest_off(consumer, status) else None
        free, limited_by = stopped or _free(consumer, used + reserved, status)
        found[consumer.pk] = Allowance(consumer, used, reserved, free, limited_by, status)
    return found


def get_allowance(consumer: Consumer) -> Allowance:
    """What the consumer may spend today, and its last refusals, the newest first. Raises QuotaUnavailable."""
    allowance = allowances([consumer])[consumer.pk]
    with reachable():
        return replace(allowance, refusals=list(Refusal.objects.filter(consumer=consumer)[:LAST_REFUSALS]))


def why_no_call(consumer: str, status: QuotaStatus) -> str:
    """Why the consumer (a slug) would be refused a single call now, in words; "" when it would not.

    Without figures of the day, so that what is refused for the same reason has the same words.
    Raises ConsumerUnknown and QuotaUnavailable.
    """
    payer = _payer(consumer)
    return _switched_off(payer, status) or _exhausted(payer, sum(_use(payer, status)), status)


def may_come_free(refusal: QuotaRefused, *, consumer: str) -> bool:
    """Whether the consumer (a slug) was refused only because of calls set aside, which may go back at any moment.

    By what is spent alone its calls would be free. Raises ConsumerUnknown and QuotaUnavailable.
    """
    if refusal.limit not in ("safety_limit", "floor", "daily_budget"):
        return False
    status = get_status()
    payer = _payer(consumer)
    used, _ = _use(payer, status)
    free = status.safety_limit - payer.floor - status.used
    if payer.daily_budget is not None:
        free = min(free, payer.daily_budget - used)
    return status.closed_reason is None and refusal.asked <= free


def _payer(consumer: str) -> Consumer:
    with reachable():
        payer = Consumer.objects.filter(slug=consumer).first()
    if payer is None:
        raise ConsumerUnknown(f"There is no consumer {consumer!r}.")
    return payer


def _use(consumer: Consumer, status: QuotaStatus) -> tuple[int, int]:
    """The calls that the consumer has used and set aside on the day of the status."""
    with reachable():
        usage = ConsumerUsage.objects.filter(ledger=status.day, consumer=consumer).first()
    return (usage.used, usage.reserved) if usage else (0, 0)


def _switched_off(payer: Consumer, status: QuotaStatus) -> str:
    """The switch that refuses the consumer every call, whether limits are enforced or not, in words; "" if none."""
    if not payer.active:
        return f"The consumer {payer} is switched off."
    return "Harvesting is switched off." if _harvest_off(payer, status) else ""


def _harvest_off(consumer: Consumer, status: QuotaStatus) -> bool:
    return consumer.kind != Consumer.Kind.API and not status.harvest_enabled


def _exhausted(payer: Consumer, spent: int, status: QuotaStatus) -> str:
    """The limit that leaves the consumer no call, in words; "" if none, or when limits are not enforced."""
    if status.enforcement == "observe":
        return ""
    free, limited_by = _free(payer, spent, status)
    reasons = {
        "day_closed": "ISBNdb has closed the day.",
        "midnight": "Midnight UTC is near.",
        "cap_per_operation": f"No operation of the consumer {payer} may make a call.",
        "daily_budget": f"The daily budget of {payer.daily_budget} calls is used up.",
        "safety_limit": "The calls of the day are used up or set aside.",
        "floor": f"No call is free above the floor of {payer.floor:,}.",
    }
    return "" if free > 0 else reasons[limited_by]


def _free(consumer: Consumer, spent: int, status: QuotaStatus) -> tuple[int, str]:
    """How many calls are free and by which limit: in the order in which quota_reserve, in SQL, looks at them."""
    if status.closed_reason is not None:
        return 0, "day_closed"
    if status.midnight_is_near:
        return 0, "midnight"
    budget = consumer.daily_budget
    left = {
        "cap_per_operation": consumer.cap_per_operation,
        "daily_budget": None if budget is None else budget - spent,
        "safety_limit": status.remaining,
        "floor": status.remaining - consumer.floor,
    }
    existing = {limit: max(0, calls) for limit, calls in left.items() if calls is not None}
    limited_by = min(existing, key=existing.__getitem__)  # of equal ones the first
    return existing[limited_by], limited_by


@dataclass(frozen=True)
class Forecast:
    """When a number of calls could be made by one consumer, if nobody else spent any.

    `today`: how many of them today. `days`: UTC days that it takes, today included when some are made today.
    `finish_at`: when the last would be sent; None when the consumer may never make them, or nobody can tell when: it,
    or harvesting, is switched off. `reset_at`: the next midnight.
    """

    calls: int
    today: int
    days: int
    finish_at: datetime | None
    reset_at: datetime

    @property
    def finishes_today(self) -> bool:
        """Whether the last would be sent before the next midnight UTC, by the pace too."""
        return self.today == self.calls and self.finish_at is not None and self.finish_at < self.reset_at


def forecast(calls: int, *, consumer: str) -> Forecast:
    """When `calls` calls of the consumer (a slug) could be made, by the quota left and the pace.

    Raises ConsumerUnknown and QuotaUnavailable.
    """
    status = get_status()
    payer = _payer(consumer)
    spent = sum(_use(payer, status))
    if _switched_off(payer, status):
        return Forecast(calls, 0, 0, None, status.reset_at)
    today, a_day = status.remaining - payer.floor, status.safety_limit - payer.floor
    if payer.daily_budget is not None:
        today, a_day = min(today, payer.daily_budget - spent), min(a_day, payer.daily_budget)
    if status.enforcement == "observe":
        today = a_day = calls
    today = 0 if _exhausted(payer, spent, status) else min(calls, today)
    rest, gap = calls - today, timedelta(seconds=SECONDS_APART / status.max_rps)
    if not rest:
        return Forecast(calls, today, min(1, calls), status.now + today * gap, status.reset_at)
    if a_day <= 0:
        return Forecast(calls, today, 0, None, status.reset_at)
    full_days, last = divmod(rest - 1, a_day)
    finish_at = status.reset_at + timedelta(days=full_days) + MIDNIGHT_GUARD + (last + 1) * gap
    return Forecast(calls, today, full_days + 1 + (today > 0), finish_at, status.reset_at)


@dataclass(frozen=True)
class DayUsage:
    """One day's ledger, and what each consumer used of it, the greatest first. All figures are calls."""

    day: date
    daily_limit: int
    safety_limit: int
    used: int
    closed: bool
    consumers: list[ConsumerUsage] = field(default_factory=list)


def usage_history(days: int, *, today: date | None = None) -> list[DayUsage]:
    """The last `days` UTC days, today among them, the newest first; a day without a ledger is left out.

    From the totals alone, never the journal. `today`: the quota's, where it is known already. Raises QuotaUnavailable.
    """
    since = (today or get_status().day) - timedelta(days=days)
    with reachable():
        ledgers = list(DailyLedger.objects.filter(day__gt=since))
        usages = list(
            ConsumerUsage.objects.filter(ledger__gt=since, used__gt=0)
            .select_related("consumer")
            .order_by("-used", "consumer__slug")
        )
    by_day: defaultdict[date, list[ConsumerUsage]] = defaultdict(list)
    for usage in usages:
        by_day[usage.ledger_id].append(usage)
    return [
        DayUsage(
            day=ledger.day,
            daily_limit=ledger.daily_limit,
            safety_limit=ledger.safety_limit,
            used=ledger.used,
            closed=ledger.closed_at is not None,
            consumers=by_day[ledger.day],
        )
        for ledger in ledgers
    ]


def journal(
    *, day: date | None = None, consumer: str | None = None, operation: str | None = None, outcome: str | None = None
) -> QuerySet[Call]:
    """The calls of one day, which is today when it is not given, by what is given of the rest; consumers by slug.

    A single day, and so never a walk through the whole journal. Raises QuotaUnavailable.
    """
    wanted = {"consumer__slug": consumer, "operation": operation, "outcome": outcome}
    given = {name: value for name, value in wanted.items() if value is not None}
    return Call.objects.select_related("consumer").filter(ledger=day or get_status().day, **given)
