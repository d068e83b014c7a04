"""What is wrong, judged from the facts alone. docs/alerts.md lists the rules for people."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings

from alexandria.alerts.models import Alert, Severity
from alexandria.alerts.snapshot import CRON_GRACE, ERROR_WINDOW, LEASE_WINDOW, Facts
from quota.selectors.dashboard import burn_rate

QUEUES = ("celery", "jobs")
"""Each needs a worker. The checks have a queue of their own, `alerts`, which all workers consume."""

USAGE = {50: Severity.INFO, 80: Severity.WARNING, 95: Severity.WARNING, 100: Severity.CRITICAL}
"""Per cent of the safety limit."""

FORECAST_AFTER = timedelta(minutes=30)
"""So much of the day has to be over before its pace says anything."""
FORECAST_PERCENT = 25
"""… and so much of the safety limit used, or the crons of the night would cry wolf."""
FORECAST_MARGIN = timedelta(minutes=30)
"""Running out within so short a time before the reset is as it should be, and opens no alert."""

ERRORS_AMONG = 20
"""Calls in ERROR_WINDOW, below which a share of them means nothing."""


@dataclass(frozen=True)
class Finding:
    """Something wrong. `key` is the same for as long as it is the same thing.

    `opens`: or else it opens no alert, and only keeps one open.
    """

    key: str
    rule: str
    severity: Severity
    title: str
    detail: str
    opens: bool = True


def find(facts: Facts) -> list[Finding]:
    """All that is wrong, each key once."""
    return [finding for rule in RULES for finding in rule(facts)]


def usage(facts: Facts) -> Iterator[Finding]:
    """50, 80, 95 and 100 % of the safety limit, each once a day."""
    status = facts.status
    for percent, severity in USAGE.items():
        if status.percentage_used >= percent:
            yield Finding(
                key=f"usage:{status.day}:{percent}",
                rule="usage",
                severity=severity,
                title=f"{percent} % of the calls of {status.day} are used",
                detail=f"{status.used:,} of {status.safety_limit:,} calls are used and {status.reserved:,} set aside. "
                f"The quota starts anew at {status.reset_at:%H:%M} UTC.",
            )


def but_lower_steps(alerts: Sequence[Alert]) -> list[Alert]:
    """All but the lower steps of `usage`, of which the highest says it all."""
    steps = [alert for alert in alerts if alert.rule == "usage"]
    highest = max(steps, key=lambda alert: int(alert.key.rpartition(":")[2]), default=None)
    return [alert for alert in alerts if alert.rule != "usage" or alert is highest]


def forecast(facts: Facts) -> Iterator[Finding]:
    """At the pace of the last hour the calls run out before the reset.

    What was told is over when they would last, and not because they have run out meanwhile.
    """
    status, burn = facts.status, burn_rate(facts.status, last_hour=facts.last_hour)
    so_far = timedelta(days=1) - (status.reset_at - status.now)
    if so_far < FORECAST_AFTER or status.percentage_used < FORECAST_PERCENT or burn.left_at_reset is not None:
        return
    detail = "They have run out, or ISBNdb has closed the day."
    if burn.runs_out_at:
        detail = (
            f"{burn.per_hour:,.0f} calls an hour are used and {status.safety_limit - status.used:,} are left: "
            f"at this pace they last until about {burn.runs_out_at:%H:%M} UTC."
        )
    yield Finding(
        key=f"forecast:{status.day}",
        rule="forecast",
        severity=Severity.WARNING,
        title="The calls will run out before the reset",
        detail=detail,
        opens=burn.runs_out_at is not None and burn.runs_out_at < status.reset_at - FORECAST_MARGIN,
    )


def drift(facts: Facts) -> Iterator[Finding]:
    """ISBNdb counted QUOTA_DRIFT_ALERT calls or more that we did not."""
    if facts.drift >= settings.QUOTA_DRIFT_ALERT:
        yield Finding(
            key=f"drift:{facts.status.day}",
            rule="drift",
            severity=Severity.CRITICAL,
            title="ISBNdb counts calls that are not ours",
            detail=f"{facts.drift:,} calls of today were put on the ledger because ISBNdb's own counter was higher. "
            "Something else uses the key.",
        )


def closed_day(facts: Facts) -> Iterator[Finding]:
    """ISBNdb said that the day's quota is gone."""
    if facts.status.closed_reason is not None:
        yield Finding(
            key=f"closed_day:{facts.status.day}",
            rule="closed_day",
            severity=Severity.CRITICAL,
            title=f"ISBNdb has closed {facts.status.day}",
            detail=f"{facts.status.closed_reason} No call is made before {facts.status.reset_at:%Y-%m-%d %H:%M} UTC.",
        )


def workers(facts: Facts) -> Iterator[Finding]:
    """Nobody consumes a queue."""
    for queue in QUEUES:
        if facts.queues is None or not facts.queues.get(queue):
            why = "The broker (Redis) is out of reach." if facts.queues is None else "No worker says that it takes it."
            yield Finding(
                key=f"workers:{queue}",
                rule="workers",
                severity=Severity.CRITICAL,
                title=f"Nobody works on the queue “{queue}”",
                detail=f"{why} What is sent there waits.",
            )


def failed_crons(facts: Facts) -> Iterator[Finding]:
    """The last run of a cron failed."""
    for run in facts.failed_crons:
        yield Finding(
            key=f"failed_cron:{run.cron}",
            rule="failed_cron",
            severity=Severity.CRITICAL if run.cron == "ledger-check" else Severity.WARNING,
            title=f"The cron {run.cron} failed",
            detail=f"Run {run.pk}, begun at {run.started_at:%Y-%m-%d %H:%M} UTC: {run.reason[:500]}",
        )


def late_crons(facts: Facts) -> Iterator[Finding]:
    """A cron did not begin when it should have."""
    if facts.late_crons:
        minutes = CRON_GRACE // timedelta(minutes=1)
        due = [f"{name} since {due:%Y-%m-%d %H:%M} UTC" for name, due in sorted(facts.late_crons.items())]
        yield Finding(
            key="late_crons",
            rule="late_crons",
            severity=Severity.WARNING,
            title="Crons do not begin when they should",
            detail=f"Due for more than {minutes} minutes: {', '.join(due)}. Does beat run, and a worker?",
        )


def error_rate(facts: Facts) -> Iterator[Finding]:
    """ALERT_ERROR_PERCENT or more of the calls of the last minutes failed."""
    failed = sum(facts.errors.values())
    judged = facts.answered + failed
    if judged >= ERRORS_AMONG and 100 * failed >= settings.ALERT_ERROR_PERCENT * judged:
        kinds = ", ".join(f"{outcome} {calls:,}" for outcome, calls in sorted(facts.errors.items()))
        yield Finding(
            key="error_rate",
            rule="error_rate",
            severity=Severity.WARNING,
            title="Many calls to ISBNdb fail",
            detail=f"{failed:,} of {judged:,} calls of the last {ERROR_WINDOW // timedelta(minutes=1)} minutes failed "
            f"({100 * failed // judged} %): {kinds}.",
        )


def leases(facts: Facts) -> Iterator[Finding]:
    """ALERT_LEASES_EXPIRED or more reservations were closed by nobody: what held them died."""
    if facts.leases_expired >= settings.ALERT_LEASES_EXPIRED:
        yield Finding(
            key="leases",
            rule="leases",
            severity=Severity.WARNING,
            title="Reservations are left behind",
            detail=f"The leases of {facts.leases_expired:,} reservations ran out in the last "
            f"{LEASE_WINDOW // timedelta(minutes=1)} minutes. Processes die, or hang, with calls set aside.",
        )


def observing(facts: Facts) -> Iterator[Finding]:
    """Limits are not enforced."""
    if facts.status.enforcement == "observe":
        yield Finding(
            key="observing",
            rule="observing",
            severity=Severity.INFO,
            title="The limits are not enforced",
            detail="The quota only observes: everything is counted, nothing is refused.",
        )


RULES: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    *(usage, forecast, drift, closed_day, workers, failed_crons, late_crons, error_rate, leases, observing),
)
