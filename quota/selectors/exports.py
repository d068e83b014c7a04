"""The whole history as rows for an export."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.db.models import QuerySet

from alexandria.common.exports import in_batches
from quota.models import Call, ConsumerUsage, DailyLedger

USAGE_COLUMNS = (
    "day",
    "daily_limit",
    "safety_limit",
    "day_used",
    "day_closed_at",
    "consumer",
    "used",
    "reserved",
    "requests",
)
CALL_COLUMNS = (
    "id",
    "day",
    "dispatched_at",
    "consumer",
    "operation",
    "reservation",
    "share_of",
    "source",
    "method",
    "path",
    "outcome",
    "status",
    "latency_ms",
    "isbns_asked",
    "isbns_found",
    "calls",
    "error",
)


def usage_rows(ledgers: QuerySet[DailyLedger]) -> Iterator[tuple[Any, ...]]:
    """USAGE_COLUMNS for each consumer on each of the days, the newest day first."""
    usages = ConsumerUsage.objects.filter(ledger__in=ledgers.order_by().values("pk")).select_related(
        "ledger", "consumer"
    )
    for usage in in_batches(usages, keys=("-ledger_id", "-id")):
        day = usage.ledger
        figures = (day.day, day.daily_limit, day.safety_limit, day.used, day.closed_at)
        yield (*figures, usage.consumer.slug, usage.used, usage.reserved, usage.requests)


def call_rows(calls: QuerySet[Call], *, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """CALL_COLUMNS for each of the calls, in the order of `keys` (see `in_batches`)."""
    for call in in_batches(calls.select_related("consumer", "reservation"), keys=keys):
        source = call.reservation.source if call.reservation else ""
        yield (
            call.id,
            call.ledger_id,
            call.dispatched_at,
            call.consumer.slug,
            call.operation,
            call.reservation_id,
            call.share_of_id,
            source,
            call.method,
            call.path,
            call.outcome,
            call.status,
            call.latency_ms,
            call.isbns_asked,
            call.isbns_found,
            call.calls,
            call.error,
        )
