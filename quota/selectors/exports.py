"""The whole history as rows for an export."""

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

from django.db.models import QuerySet, Value
from django.db.models.functions import Coalesce

from alexandria.common.exports import in_batches
from quota.models import Call, ConsumerUsage, DailyLedger

_USAGE_ATTRIBUTES = {
    "day": "ledger_id",
    "daily_limit": "ledger.daily_limit",
    "safety_limit": "ledger.safety_limit",
    "day_used": "ledger.used",
    "day_closed_at": "ledger.closed_at",
    "consumer": "consumer.slug",
    "used": "used",
    "reserved": "reserved",
    "requests": "requests",
}
USAGE_COLUMNS = tuple(_USAGE_ATTRIBUTES)
_CALL_ATTRIBUTES = {
    "id": "id",
    "day": "ledger_id",
    "dispatched_at": "dispatched_at",
    "consumer": "consumer.slug",
    "operation": "operation",
    "reservation": "reservation_id",
    "share_of": "share_of_id",
    "source": "source",
    "method": "method",
    "path": "path",
    "outcome": "outcome",
    "status": "status",
    "latency_ms": "latency_ms",
    "isbns_asked": "isbns_asked",
    "isbns_found": "isbns_found",
    "calls": "calls",
    "error": "error",
}
CALL_COLUMNS = tuple(_CALL_ATTRIBUTES)


def usage_rows(ledgers: QuerySet[DailyLedger]) -> Iterator[tuple[Any, ...]]:
    """USAGE_COLUMNS for each consumer on each of the days, the newest day first."""
    usages = ConsumerUsage.objects.filter(ledger__in=ledgers.order_by().values("pk"))
    rows = in_batches(usages.select_related("ledger", "consumer"), keys=("-ledger_id", "-id"))
    return map(attrgetter(*_USAGE_ATTRIBUTES.values()), rows)


def call_rows(calls: QuerySet[Call], *, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """CALL_COLUMNS for each of the calls, in the order of `keys` (see `in_batches`)."""
    calls = calls.select_related("consumer").annotate(source=Coalesce("reservation__source", Value("")))
    return map(attrgetter(*_CALL_ATTRIBUTES.values()), in_batches(calls, keys=keys))
