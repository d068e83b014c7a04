"""The whole history as rows for an export, in batches: neither we nor the database hold all of it at once."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from django.db.models import F, Model, Q, QuerySet

from quota.models import Call, ConsumerUsage, DailyLedger

Row = TypeVar("Row", bound=Model)

BATCH = 2_000
"""Rows that one query reads."""

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
    for usage in in_batches(usages, keys=("ledger_id", "id")):
        day = usage.ledger
        figures = (day.day, day.daily_limit, day.safety_limit, day.used, day.closed_at)
        yield (*figures, usage.consumer.slug, usage.used, usage.reserved, usage.requests)


def call_rows(calls: QuerySet[Call], *, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """CALL_COLUMNS for each of the calls, in descending order of `keys` (see `in_batches`)."""
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


def in_batches(rows: QuerySet[Row], *, keys: Sequence[str]) -> Iterator[Row]:
    """The rows in descending order of `keys`, BATCH rows for each query. The keys together must be unique.

    Each query starts after the last row of the one before, so rows that are written meanwhile do not shift it. A
    server-side cursor would need one connection for the whole export. PgBouncer in transaction mode does not give one.
    """
    ordered = rows.order_by(*(F(key).desc() for key in keys))
    after = Q()
    while batch := list(ordered.filter(after)[:BATCH]):
        yield from batch
        if len(batch) < BATCH:
            return
        after = _beyond({key: getattr(batch[-1], key) for key in keys})


def _beyond(last: dict[str, Any]) -> Q:
    """The rows after `last`: the first key is lower, or it is equal and the second key is lower, and so on."""
    below = Q()
    equal: dict[str, Any] = {}
    for key, value in last.items():
        below |= Q(**equal, **{f"{key}__lt": value})
        equal[key] = value
    return below
