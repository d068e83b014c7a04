"""What was used: by day and consumer, and request by request."""

from datetime import date, timedelta

from django.db.models import Prefetch, Q, QuerySet

from quota.database import reachable
from quota.models import Call, ConsumerUsage, DailyLedger
from quota.selectors.status import get_status


def usage_history(days: int, *, consumer: str | None = None, today: date | None = None) -> list[DailyLedger]:
    """The last `days` UTC days, including today, the newest first. Days without a ledger are left out.

    The `usages` of each ledger are read with it: of the consumers that used it, the largest use first.
    `consumer`: a slug; the ledgers then have only its usage. It reads totals only, never the journal.
    `today`: the quota's, where it is known already. Raises QuotaUnavailable.
    """
    whose = Q() if consumer is None else Q(consumer__slug=consumer)
    since = (today or get_status().day) - timedelta(days=days)
    usages = ConsumerUsage.objects.filter(whose, Q(used__gt=0) | Q(requests__gt=0))
    usages = usages.select_related("consumer").order_by("-used", "consumer__slug")
    with reachable():
        return list(DailyLedger.objects.filter(day__gt=since).prefetch_related(Prefetch("usages", usages)))


def journal(
    *, day: date | None = None, consumer: str | None = None, operation: str | None = None, outcome: str | None = None
) -> QuerySet[Call]:
    """The journal of one day (today unless given), filtered by consumer (a slug), operation and outcome where given.

    It is always a single day, so a query never reads the whole journal. Raises QuotaUnavailable.
    """
    wanted = {"consumer__slug": consumer, "operation": operation, "outcome": outcome}
    given = {name: value for name, value in wanted.items() if value is not None}
    return Call.objects.select_related("consumer").filter(ledger=day or get_status().day, **given)
