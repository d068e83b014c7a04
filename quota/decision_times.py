"""How long PostgreSQL takes for a decision of the quota, measured in this process for Prometheus."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Histogram

from quota.database import Decision
from quota.exceptions import QuotaUnavailable

DECISION = Histogram(
    "alexandria_quota_decision_seconds",
    "How long PostgreSQL took to reserve, to dispatch, to do both in one statement, or to move: to give "
    "a dispatched request another send time. By step and outcome.",
    ["step", "outcome"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)


class Measured:
    """The outcome of the step that is measured; "unavailable" until `decided` is called."""

    outcome = "unavailable"

    def decided(self, decision: Decision) -> Decision:
        self.outcome = decision.outcome
        return decision


@contextmanager
def measured(step: str) -> Iterator[Measured]:
    """Measures how long the block takes, which asks PostgreSQL for one decision. Other errors are not measured."""
    began, measurement = time.perf_counter(), Measured()
    try:
        yield measurement
    except QuotaUnavailable:
        DECISION.labels(step, measurement.outcome).observe(time.perf_counter() - began)
        raise
    DECISION.labels(step, measurement.outcome).observe(time.perf_counter() - began)
