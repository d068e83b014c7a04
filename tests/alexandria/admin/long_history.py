"""A long history of the quota, made with one statement per table. Pages must still open quickly after a year."""

from datetime import date
from typing import Any

from django.db import connection

LEDGERS = """
INSERT INTO quota_dailyledger (
    day, daily_limit, safety_buffer, max_rps, used, reserved, requests, next_dispatch_at, closed_reason, opened_at
)
SELECT %(today)s::date - ago, 15000, 2000, 3, 0, 0, 0, %(today)s::date - ago, '', %(today)s::date - ago
FROM generate_series(0, %(days)s - 1) AS ago
"""

# Evenly over the day, and unevenly over the consumers. One call in ten fails. A call has 1,000 ISBNs; 950 are known.
CALLS = """
INSERT INTO quota_call (
    day, consumer_id, reservation_id, operation, calls, dispatched_at, send_at, method, path, outcome, status,
    latency_ms, isbns_asked, isbns_found, error
)
SELECT day, consumer, gen_random_uuid(), 'enrich', 1, at, at, 'POST', '/books',
    CASE WHEN number %% 10 > 0 THEN 'ok' WHEN number %% 20 = 0 THEN 'timeout' ELSE 'too_fast' END, 200, 80, 1000,
    CASE WHEN number %% 10 > 0 THEN 950 END, ''
FROM (
    SELECT %(today)s::date - ago AS day, number,
        (%(consumers)s::bigint[])[1 + floor(%(payers)s * power(number * 0.618034 %% 1, 2))] AS consumer,
        (%(today)s::date - ago)::timestamp AT TIME ZONE 'UTC' + number * (interval '1 day' / %(calls)s) AS at
    FROM generate_series(%(days)s - 1, 0, -1) AS ago, generate_series(0, %(calls)s - 1) AS number
) AS sent
WHERE day < %(today)s OR at < quota_now()
"""

TOTALS = [
    """
    INSERT INTO quota_consumerusage (day, consumer_id, used, reserved, requests)
    SELECT day, consumer_id, sum(calls), 0, count(*) FROM quota_call GROUP BY day, consumer_id
    """,
    """
    UPDATE quota_dailyledger ledger SET used = total.used, requests = total.requests
    FROM (
        SELECT day, sum(used) AS used, sum(requests) AS requests FROM quota_consumerusage GROUP BY day
    ) AS total
    WHERE total.day = ledger.day
    """,
]

RESERVATIONS = """
INSERT INTO quota_reservation (
    id, day, consumer_id, operation, source, asked, calls, dispatched, state, created_at, expires_at, closed_at
)
SELECT gen_random_uuid(), %(today)s::date - ago, %(first)s, 'enrich', '', 1, 1, 1, 'settled',
    %(today)s::date - ago, %(today)s::date - ago, %(today)s::date - ago
FROM generate_series(%(days)s - 1, 0, -1) AS ago, generate_series(1, %(rows)s) AS number
"""

REFUSALS = """
INSERT INTO quota_refusal (
    id, day, consumer_id, operation, source, "limit", asked, free, at, last_at, times, within, figures
)
SELECT gen_random_uuid(), day, %(first)s, 'enrich', '', 'floor', 1, 0, at, at, 2, at, '{}'
FROM (
    SELECT %(today)s::date - ago AS day,
        (%(today)s::date - ago)::timestamp AT TIME ZONE 'UTC' + number * interval '1 minute' AS at
    FROM generate_series(%(days)s - 1, 0, -1) AS ago, generate_series(1, %(rows)s) AS number
) AS refused
"""


def fill(*, today: date, consumers: list[int], days: int, calls_a_day: int, rows_a_day: int) -> None:
    """Fills `days` days up to now; `today` is the last. Each has that many calls, reservations and refusals.

    `consumers`: the ids of the consumers that pay.
    """
    known: dict[str, Any] = {"today": today, "days": days, "calls": calls_a_day, "rows": rows_a_day}
    known |= {"consumers": consumers, "payers": len(consumers), "first": consumers[0]}
    with connection.cursor() as cursor:
        for statement in (LEDGERS, CALLS, *TOTALS, RESERVATIONS, REFUSALS):
            cursor.execute(statement, known)
        cursor.execute("VACUUM ANALYZE quota_call, quota_reservation, quota_refusal, quota_consumerusage")
