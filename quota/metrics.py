"""The figures of the quota for Prometheus. docs/monitoring.md explains each.

Figures of the day restart at 0 at midnight UTC, as Prometheus allows for a counter.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from typing import Any, TypeVar

from django.db import connection
from django.db.models import Count, Min, Sum
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from quota.database import reachable
from quota.models import Call, ConsumerUsage, Reconciliation, Reservation
from quota.selectors.days import refusals_of
from quota.selectors.prices import last_price_change
from quota.selectors.status import QuotaStatus, begin_of, drift_of, effective_limits, get_status, sold_today

Family = TypeVar("Family", GaugeMetricFamily, CounterMetricFamily)

LATENCIES = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)
PACE_WAITS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

CONSUMER_GAUGES = (
    ("consumer_used", "Calls of today used."),
    ("consumer_reserved", "Calls of today reserved."),
    ("consumer_requests", "Requests of today that are dispatched."),
    ("consumer_daily_budget", "Maximum number of calls a day, for a consumer with a budget."),
)

JOURNAL = """
SELECT consumer.slug, call.outcome, coalesce(call.status / 100 || 'xx', 'none'),
    sum(call.calls), count(call.reservation_id) FILTER (WHERE call.share_of_id IS NULL),
    coalesce(sum(call.isbns_asked), 0), coalesce(sum(call.isbns_found), 0)
FROM quota_call call JOIN quota_consumer consumer ON consumer.id = call.consumer_id
WHERE call.day = %s
GROUP BY 1, 2, 3
"""


def collect() -> Iterator[Metric]:
    """Today's figures, from the tables, so that every process gives the same answer. Raises QuotaUnavailable.

    It takes some 15 statements. Each reads today's rows or an index; none reads the whole journal.
    """
    status = get_status()
    yield from _ledger(status)
    with reachable():
        yield from _consumers(status.day)
        yield from _journal(status.day)
        yield from _times(status.day)
        yield from _refusals(status.day)
        yield from _reservations(status)
        yield from _reconciliations(status)
    yield from _prices(status)


def gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"alexandria_{name}", help_text, value=value)


def gauges(
    name: str, help_text: str, labels: Iterable[str], rows: Iterable[tuple[Iterable[str], float]]
) -> GaugeMetricFamily:
    """One gauge with a sample for each (labels, value)."""
    return _with_samples(GaugeMetricFamily(f"alexandria_{name}", help_text, labels=list(labels)), rows)


def counters(
    name: str, help_text: str, labels: Iterable[str], rows: Iterable[tuple[Iterable[str], float]]
) -> CounterMetricFamily:
    """The same for a counter; Prometheus adds `_total` to its name."""
    return _with_samples(CounterMetricFamily(f"alexandria_{name}", help_text, labels=list(labels)), rows)


def _with_samples(family: Family, rows: Iterable[tuple[Iterable[str], float]]) -> Family:
    for values, value in rows:
        family.add_metric(list(values), value)
    return family


def _ledger(status: QuotaStatus) -> Iterator[Metric]:
    yield gauge("quota_daily_limit", "Calls of today that ISBNdb sells us.", status.daily_limit)
    yield gauge("quota_safety_limit", "Calls of today that may be used.", status.safety_limit)
    yield gauge("quota_used", "Calls of today that are used.", status.used)
    yield gauge("quota_reserved", "Calls of today that are reserved.", status.reserved)
    yield gauge("quota_remaining", "Calls of today that are neither used nor reserved.", status.remaining)
    yield gauge("quota_requests", "Requests of today that are dispatched. Each costs its price.", status.requests)
    yield gauge("quota_max_rps", "Maximum number of dispatches a second, for the whole fleet.", status.max_rps)
    yield gauge("quota_closed", "1 when ISBNdb has closed the day, otherwise 0.", status.closed_reason is not None)
    enforced = status.enforcement == "enforce"
    yield gauge("quota_enforced", "1 when limits are enforced, 0 when they are observed.", enforced)
    yield gauge("quota_reset_seconds", "Seconds to the reset at midnight UTC.", status.seconds_to_reset)


def _consumers(day: date) -> Iterator[Metric]:
    columns = ("consumer__slug", "used", "reserved", "requests", "consumer__daily_budget")
    rows = list(ConsumerUsage.objects.filter(ledger=day).values_list(*columns))
    for column, (name, help_text) in enumerate(CONSUMER_GAUGES, start=1):
        figures = [([row[0]], row[column]) for row in rows if row[column] is not None]
        yield gauges(name, help_text, ["consumer"], figures)


def _journal(day: date) -> Iterator[Metric]:
    """Only final figures are counters: a request under way has no outcome yet, and corrections can be negative."""
    rows = _rows(JOURNAL, [day])
    passing = {Call.Outcome.UNKNOWN.value, Call.Outcome.ADJUSTED.value}
    yield counters(
        "calls",
        "Calls of today whose outcome is known, by consumer, outcome and class of HTTP status.",
        ["consumer", "outcome", "status"],
        ((labels, calls) for *labels, calls, _, _, _ in rows if labels[1] not in passing),
    )
    yield counters(
        "isbndb_requests",
        "Requests of today whose outcome is known, by consumer, outcome and class of HTTP status.",
        ["consumer", "outcome", "status"],
        ((labels, requests) for *labels, _, requests, _, _ in rows if requests and labels[1] not in passing),
    )
    yield gauge(
        "calls_unknown",
        "Calls of today's requests that have no outcome yet: under way, or lost.",
        sum(calls for _, outcome, _, calls, *_ in rows if outcome == Call.Outcome.UNKNOWN),
    )
    yield gauge(
        "isbndb_requests_unknown",
        "Requests of today that are dispatched and have no outcome yet: under way, or lost.",
        sum(requests for _, outcome, _, _, requests, *_ in rows if outcome == Call.Outcome.UNKNOWN),
    )
    yield gauge(
        "calls_adjusted",
        "Calls that people added to today's ledger; below 0 when they took more back.",
        sum(calls for _, outcome, _, calls, *_ in rows if outcome == Call.Outcome.ADJUSTED),
    )
    for name, column in (("asked", 5), ("found", 6)):
        isbns: Counter[str] = Counter()
        for row in rows:
            isbns[row[0]] += row[column]
        by_consumer = (([slug], number) for slug, number in isbns.items())
        yield counters(f"isbns_{name}", f"ISBNs {name} in today's requests.", ["consumer"], by_consumer)


def _times(day: date) -> Iterator[Metric]:
    wait = "extract(epoch FROM greatest(send_at - dispatched_at, interval '0'))"
    columns = [f"count(*) FILTER (WHERE latency_ms <= {1000 * bound})" for bound in LATENCIES]
    columns += ["count(latency_ms)", "coalesce(sum(latency_ms), 0) / 1000.0"]
    columns += [f"count(*) FILTER (WHERE {wait} <= {bound})" for bound in PACE_WAITS]
    columns += ["count(*)", f"coalesce(sum({wait}), 0)"]
    requests = "day = %s AND reservation_id IS NOT NULL AND share_of_id IS NULL"
    sql = f"SELECT {', '.join(columns)} FROM quota_call WHERE {requests}"  # noqa: S608 (our own)
    [figures] = _rows(sql, [day])
    middle = len(LATENCIES) + 2
    yield _histogram("isbndb_latency_seconds", "How long ISBNdb took today.", LATENCIES, figures[:middle])
    help_text = "Time from the dispatch to the send time that the pace gave, today."
    yield _histogram("pace_wait_seconds", help_text, PACE_WAITS, figures[middle:])


def _histogram(name: str, help_text: str, bounds: Iterable[float], figures: Iterable[Any]) -> HistogramMetricFamily:
    """`figures`: the number within each bound, the number of all, and the sum."""
    *within, count, total = map(float, figures)
    buckets = [(str(bound), found) for bound, found in zip(bounds, within, strict=True)]
    return HistogramMetricFamily(f"alexandria_{name}", help_text, [*buckets, ("+Inf", count)], sum_value=total)


def _refusals(day: date) -> Iterator[Metric]:
    rows = refusals_of(day).order_by().values_list("consumer__slug", "limit")
    yield counters(
        "refusals",
        "Refusals of today, by consumer and limit.",
        ["consumer", "limit"],
        ((labels, times) for *labels, times in rows.annotate(Sum("times"))),
    )


def _reservations(status: QuotaStatus) -> Iterator[Metric]:
    are_open = Reservation.objects.filter(state=Reservation.State.OPEN).aggregate(Count("pk"), Min("created_at"))
    oldest = are_open["created_at__min"]
    age = (status.now - oldest).total_seconds() if oldest else 0
    yield gauge("reservations_open", "Reservations that are open.", are_open["pk__count"])
    yield gauge("reservation_oldest_seconds", "Age of the oldest open reservation; 0 without one.", max(0.0, age))
    expired = Reservation.objects.filter(created_at__gte=begin_of(status.day), state=Reservation.State.EXPIRED)
    yield counters("leases_expired", "Reservations made today whose lease ran out.", [], [([], expired.count())])


def _reconciliations(status: QuotaStatus) -> Iterator[Metric]:
    """Without a reconciliation there is no drift and no age to report."""
    help_text = "Calls added to today's ledger because ISBNdb counted more."
    yield counters("drift", help_text, [], [([], drift_of(status.day))])
    last = Reconciliation.objects.filter(ignored="", answered_at__gt=status.now - timedelta(days=2)).first()
    rows: list[tuple[list[str], float]] = [([], last.drift)] if last else []
    yield gauges("drift_last", "ISBNdb's count minus ours, in the last comparison.", [], rows)
    rows = [([], max(0.0, (status.now - last.answered_at).total_seconds()))] if last else []
    yield gauges("reconciliation_age_seconds", "Seconds since ISBNdb's count was last compared with ours.", [], rows)


def _prices(status: QuotaStatus) -> Iterator[Metric]:
    help_text = "1 for a day after ISBNdb's counter shows another price of a batch, and while we charge less."
    yield gauge("batch_price_changed", help_text, last_price_change(status.now) is not None)
    help_text = "Calls a day, by the switches or the environment."
    yield gauge("quota_configured_limit", help_text, effective_limits().daily_limit)
    sold = sold_today(status.day)
    rows: list[tuple[list[str], float]] = [([], sold)] if sold is not None else []
    yield gauges("isbndb_daily_limit", "Calls a day that ISBNdb sells, by its last answer of today.", [], rows)


def _rows(sql: str, params: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows
