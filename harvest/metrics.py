"""Prometheus metrics of crons; docs/monitoring.md explains each."""

from collections.abc import Iterator

from django.db import connection
from prometheus_client.core import Metric

from harvest.models import HarvestRun
from quota.database import reachable
from quota.metrics import counters, gauges
from quota.selectors.status import begin_of, get_status

# For each cron: uses its own index backwards, to the first run that started before today.
RUNS_OF_TODAY = """
SELECT run.cron, run.outcome, sum(1 + run.repeats)
FROM harvest_cronstate state
CROSS JOIN LATERAL (
    SELECT coalesce((
        SELECT id FROM harvest_harvestrun
        WHERE cron = state.name AND started_at < %s ORDER BY id DESC LIMIT 1
    ), 0) AS id
) AS before
JOIN harvest_harvestrun run ON run.cron = state.name AND run.id > before.id
WHERE run.outcome <> 'running'
GROUP BY 1, 2
"""
LAST_RUNS = """
SELECT state.name, last.outcome, last.repeats, extract(epoch FROM quota_now() - last.ended_at),
    extract(epoch FROM last.ended_at - last.started_at)
FROM harvest_cronstate state
CROSS JOIN LATERAL (
    SELECT * FROM harvest_harvestrun WHERE cron = state.name AND outcome <> 'running' ORDER BY id DESC LIMIT 1
) AS last
"""


def collect() -> Iterator[Metric]:
    """Reads the figures from the tables. Raises QuotaUnavailable."""
    today = begin_of(get_status().day)
    with reachable():
        with connection.cursor() as cursor:
            cursor.execute(RUNS_OF_TODAY, [today])
            runs = cursor.fetchall()
            cursor.execute(LAST_RUNS)
            last = cursor.fetchall()
        yield counters(
            "cron_runs",
            "Runs that ended today; consecutive runs that did nothing count on the day of the first one.",
            ["cron", "outcome"],
            ((labels, times) for *labels, times in runs),
        )
        outcomes = [outcome for outcome in HarvestRun.Outcome if outcome != HarvestRun.Outcome.RUNNING]
        yield gauges(
            "cron_last_outcome",
            "1 for the outcome of the cron's last run, 0 for all other outcomes.",
            ["cron", "outcome"],
            (([row[0], outcome.value], int(outcome == row[1])) for row in last for outcome in outcomes),
        )
        yield gauges(
            "cron_last_end_seconds",
            "Seconds since the cron's last run ended.",
            ["cron"],
            (([name], max(0.0, float(age))) for name, _, _, age, _ in last),
        )
        yield gauges(
            "cron_last_duration_seconds",
            "Seconds that the cron's last run took; not shown for repeated runs that did nothing.",
            ["cron"],
            (([name], float(duration)) for name, _, repeats, _, duration in last if repeats == 0),
        )
