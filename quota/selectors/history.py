"""What was used: by day and consumer, and request by request."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta

from django.db.models import Q, QuerySet

from quota.database import reachable
from quota.models import Call, ConsumerUsage, DailyLedger
from quota.selectors.status import get_status


@dataclass(frozen=True)
class DayUsage:
    """One day's ledger, and what each consumer used of it, the largest first. Figures are calls, except `requests`."""

    day: date
    daily_limit: int
    safety_limit: int
    used: int
    requests: int
    closed: bool
    consumers: list[ConsumerUsage] = field(default_factory=list)


def usage_history(days: int, *, consumer: str | None = None, today: date | None = None) -> list[DayUsage]:
    """The last `days` UTC days, including today, the newest first. Days without a ledger are left out.

    `consumer`: a slug; of the consumers, the days then have only this one. It reads totals only, never the journal.
    `today`: the quota's, where it is known already. Raises QuotaUnavailable.
    """
    whose = Q() if consumer is None else Q(consumer__slug=consumer)
    since = (today or get_status().day) - timedelta(days=days)
    with reachable():
        ledgers = list(DailyLedger.objects.filter(day__gt=since))
        usages = list(
            ConsumerUsage.objects.filter(whose, Q(used__gt=0) | Q(requests__gt=0), ledger__gt=since)
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
            requests=ledger.requests,
            closed=ledger.closed_at is not None,
            consumers=by_day[ledger.day],
        )
        for ledger in ledgers
    ]


def journal(
    *, day: date | None = None, consumer: str | None = None, operation: str | None = None, outcome: str | None = None
) -> QuerySet[Call]:
    """The journal of one day (today unless given), filtered by consumer (a slug), operation and outcome where given.

    It is always a single day, so a query never reads the whole journal. Raises QuotaUnavailable.
    """
    wanted = {"consumer__slug": consumer, "operation": operation, "outcome": outcome}
    given = {name: value for name, value in wanted.items() if value is not None}
    return Call.objects.select_related("consumer").filter(ledger=day or get_status().day, **given)
