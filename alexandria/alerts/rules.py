"""The alert rules. Each rule is one entry of RULES: its threshold, severity, words, check and Prometheus expression.

A check is a pure function of a `Snapshot`. `alerts/prometheus.py` writes docs/prometheus-rules.yml from the same
entries, so that both engines open the same alerts. docs/alerts.md lists the rules for people; a test compares it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from string import Template

from django.conf import settings

from alexandria.alerts.models import Alert, Severity
from alexandria.alerts.snapshot import CRON_GRACE, ERROR_WINDOW, LEASE_WINDOW, LOG_IN_WINDOW, Snapshot
from alexandria.common.text import as_people_read, counted
from harvest.models import HarvestRun
from quota.selectors.dashboard import ANSWERED, FAILED, burn_rate

QUEUES = ("celery", "jobs")
"""Each needs a worker. The checks have a queue of their own, `alerts`, which all workers consume."""
LEDGER_CHECK = "ledger-check"
"""The cron that compares the ledger with the journal."""

MINUTE = timedelta(minutes=1)
FORECAST_AFTER = 30 * MINUTE
"""Earlier in the day, the pace says nothing yet."""
FORECAST_MARGIN = 30 * MINUTE
"""Running out so shortly before the reset is good use of the quota. It opens no alert."""
MIN_JUDGED_REQUESTS = 20
"""With fewer requests in the ERROR_WINDOW, the share of failed ones means nothing."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong. `key` stays the same as long as the cause is the same.

    `opens`: False keeps an alert open that is open already, and opens none.
    """

    key: str
    rule: str
    severity: Severity
    title: str
    detail: str
    opens: bool = True


@dataclass(frozen=True)
class Rule:
    """`title` and `advice` are the same in both engines. Words in braces in `title` are `threshold` or labels."""

    name: str
    severity: Severity
    opens_when: str
    title: str
    advice: str
    check: "Check | None" = None
    threshold: float | str | None = None
    """A number, or the name of the setting that holds it."""
    window: timedelta | None = None
    """The time that the check looks back."""
    expr: str = ""
    """In the language of Prometheus: see `filled_in`. Empty: Prometheus does not check this rule."""
    value: str = ""
    """In Prometheus: the figures, where the built-in engine has its own. `{{ $value }}` is the value of `expr`."""
    lasts: str = ""
    """In Prometheus: how long `expr` holds before the alert fires (`for`)."""
    alert: str = ""
    """In Prometheus: the alert, if it is not called after the rule."""

    @property
    def alert_name(self) -> str:
        return self.alert or f"Alexandria{self.name.title().replace('_', '')}"

    @property
    def limit(self) -> float:
        """The threshold as a number."""
        if isinstance(self.threshold, str):
            return int(getattr(settings, self.threshold))
        return self.threshold or 0

    def filled_in(self, text: str) -> str:
        """The text with `$threshold` and `$minutes` (of the window) replaced."""
        minutes = (self.window or timedelta()) // MINUTE
        return Template(text).substitute(threshold=self.limit, minutes=minutes)

    def finding(self, key: str, detail: str, *, opens: bool = True, **labels: object) -> Finding:
        return Finding(
            key=key,
            rule=self.name,
            severity=self.severity,
            title=self.title.format(threshold=self.limit, **labels),
            detail=f"{detail} {self.advice}",
            opens=opens,
        )


Check = Callable[[Rule, Snapshot], Iterator[Finding]]


def find(snapshot: Snapshot) -> list[Finding]:
    """Everything that is wrong. No two findings have the same key."""
    return [finding for rule in RULES if rule.check for finding in rule.check(rule, snapshot)]


def but_lower_steps(alerts: Sequence[Alert]) -> list[Alert]:
    """The alerts without the lower steps of `usage`. The highest step says everything."""
    steps = [alert for alert in alerts if alert.rule == "usage"]
    highest = max(steps, key=lambda alert: int(alert.key.rpartition(":")[2]), default=None)
    return [alert for alert in alerts if alert.rule != "usage" or alert is highest]


def usage(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    status = snapshot.status
    if status.percentage_used >= rule.limit:
        yield rule.finding(
            f"usage:{status.day}:{rule.limit}",
            f"{status.used:,} of {status.safety_limit:,} calls are used and {status.reserved:,} are reserved.",
            day=status.day,
        )


def forecast(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """The alert stays open when the calls have run out: then the forecast has come true. It ends when they last."""
    status, burn = snapshot.status, burn_rate(snapshot.status, last_hour=snapshot.last_hour)
    elapsed = timedelta(days=1) - (status.reset_at - status.now)
    if elapsed < FORECAST_AFTER or status.percentage_used < rule.limit or burn.left_at_reset is not None:
        return
    detail = "No call is left, or ISBNdb has closed the day."
    if burn.runs_out_at:
        detail = (
            f"The pace is {burn.per_hour:,.0f} calls an hour and {status.safety_limit - status.used:,} are left: "
            f"they last until about {as_people_read(burn.runs_out_at)}."
        )
    opens = burn.runs_out_at is not None and burn.runs_out_at < status.reset_at - FORECAST_MARGIN
    yield rule.finding(f"forecast:{status.day}", detail, opens=opens)


def drift(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.drift >= rule.limit:
        detail = f"ISBNdb's own counter was higher, so today's count was raised by {counted(snapshot.drift, 'call')}."
        yield rule.finding(f"drift:{snapshot.status.day}", detail)


def closed_day(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    status = snapshot.status
    if status.closed_reason is not None:
        until = as_people_read(status.reset_at)
        detail = f"{status.closed_reason} No calls are granted before {until}, unless the day is opened again."
        yield rule.finding(f"closed_day:{status.day}", detail, day=status.day)


def batch_price_changed(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    change = snapshot.price_change
    if change is not None:
        detail = f"A batch costs {change.price}, {change.how} at {as_people_read(change.seen_at)}."
        if change.chosen_instead:
            detail += f" But the {change.chosen_instead} says otherwise, and that is in force: set it to “measure”."
        yield rule.finding(f"batch_price_changed:{change.measurement}", detail)


def sold_less(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.sold is not None and snapshot.sold < snapshot.configured_limit:
        detail = (
            f"ISBNdb sells {snapshot.sold:,}, our daily limit is {snapshot.configured_limit:,}. Today's is "
            f"{snapshot.status.daily_limit:,} now, of which {snapshot.status.safety_limit:,} are used at most."
        )
        yield rule.finding(f"sold_less:{snapshot.status.day}:{snapshot.sold}", detail)


def workers(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    why = "Redis does not answer." if snapshot.queues is None else "No worker reports that it consumes this queue."
    for queue in QUEUES:
        if snapshot.queues is None or not snapshot.queues.get(queue):
            yield rule.finding(f"workers:{queue}", why, queue=queue)


def failed_cron(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    for run in snapshot.failed_crons:
        if run.cron != LEDGER_CHECK:
            yield _failed(rule, run)


def failed_ledger_check(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    for run in snapshot.failed_crons:
        if run.cron == LEDGER_CHECK:
            yield _failed(rule, run)


def _failed(rule: Rule, run: HarvestRun) -> Finding:
    detail = f"Run {run.pk}, started at {as_people_read(run.started_at)}: {run.reason[:500]}"
    return rule.finding(f"failed_cron:{run.cron}", detail, cron=run.cron)


def late_crons(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.late_crons:
        due = [f"{name} since {as_people_read(due)}" for name, due in sorted(snapshot.late_crons.items())]
        yield rule.finding("late_crons", f"Due, but not started: {', '.join(due)}.")


def unstored_answers(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.answers_aside or snapshot.bad_answers:
        detail = f"They wait for the database: {snapshot.answers_aside}. They are broken: {snapshot.bad_answers}."
        yield rule.finding("unstored_answers", detail)


def error_rate(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    failed = sum(snapshot.errors.values())
    judged = snapshot.answered + failed
    if judged >= MIN_JUDGED_REQUESTS and 100 * failed >= rule.limit * judged:
        outcomes = ", ".join(f"{outcome} {requests:,}" for outcome, requests in sorted(snapshot.errors.items()))
        detail = f"{failed:,} of the last {judged:,} requests failed ({100 * failed // judged} %): {outcomes}."
        yield rule.finding("error_rate", detail)


def leases(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.leases_expired >= rule.limit:
        detail = f"The leases of {counted(snapshot.leases_expired, 'reservation')} ran out in the last hour."
        yield rule.finding("leases", detail)


def log_ins(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.failed_log_ins >= rule.limit:
        yield rule.finding("log_ins", f"{counted(snapshot.failed_log_ins, 'log-in')} failed in the last hour.")


def observing(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.status.enforcement == "observe":
        yield rule.finding("observing", "The quota counts all calls and refuses none.")


def _usage_rule(percent: int, severity: Severity) -> Rule:
    return Rule(
        name="usage",
        severity=severity,
        threshold=percent,
        opens_when="$threshold % of the safety limit are used. Once a day; over at midnight UTC",
        title="{threshold} % of the calls of {day} are used",
        advice="The next day starts at 00:00 UTC. “Consumers” in the admin shows who spends the calls.",
        check=usage,
        expr=""
        if severity == Severity.INFO  # Prometheus would page somebody
        else "100 * max(alexandria_quota_used) / max(alexandria_quota_safety_limit) >= $threshold",
        alert=f"AlexandriaUsage{percent}",
    )


def _requests(outcomes: Iterable[str]) -> str:
    """The requests of the rule's window with these outcomes, in the language of Prometheus."""
    return f'increase(alexandria_isbndb_requests_total{{outcome=~"{"|".join(sorted(outcomes))}"}}[${{minutes}}m])'


_FAILED_REQUESTS = _requests(FAILED)
_JUDGED_REQUESTS = _requests([*ANSWERED, *FAILED])

RULES = (
    _usage_rule(50, Severity.INFO),
    _usage_rule(80, Severity.WARNING),
    _usage_rule(95, Severity.WARNING),
    _usage_rule(100, Severity.CRITICAL),
    Rule(
        name="forecast",
        severity=Severity.WARNING,
        threshold=25,
        window=timedelta(hours=1),
        opens_when="at the pace of the last hour the calls run out more than "
        f"{FORECAST_MARGIN // MINUTE} minutes before the reset. Not in the first {FORECAST_AFTER // MINUTE} minutes "
        "of a day, and not before $threshold % are used. Over when the calls last, or at midnight UTC",
        title="The calls will run out before the reset",
        advice="“Consumers” in the admin shows who spends them.",
        check=forecast,
        expr="max(alexandria_quota_used) + max(deriv(alexandria_quota_used[${minutes}m])) "
        f"* (max(alexandria_quota_reset_seconds) - {FORECAST_MARGIN.seconds})\n"
        "> max(alexandria_quota_safety_limit)\n"
        f"and max(alexandria_quota_reset_seconds) < {86_400 - FORECAST_AFTER.seconds}\n"
        "and 100 * max(alexandria_quota_used) / max(alexandria_quota_safety_limit) >= $threshold",
        value="At this pace {{ $value | humanize }} calls are used by then.",
        lasts="15m",
    ),
    Rule(
        name="drift",
        severity=Severity.CRITICAL,
        threshold="QUOTA_DRIFT_ALERT",
        opens_when="ISBNdb has counted $threshold or more calls today that Alexandria has not. Over at midnight UTC",
        title="ISBNdb counts calls that Alexandria did not make",
        advice="Something else uses the key, or a request costs more than expected: see docs/troubleshooting.md.",
        check=drift,
        expr="max(alexandria_drift_total) >= $threshold",
        value="{{ $value }} calls of today.",
    ),
    Rule(
        name="closed_day",
        severity=Severity.CRITICAL,
        opens_when="ISBNdb reports that the day's quota is used up. Over at midnight UTC, or when the day is opened "
        "again",
        title="ISBNdb has closed the quota of {day}",
        advice="docs/troubleshooting.md says what to do.",
        check=closed_day,
        expr="max(alexandria_quota_closed) == 1",
    ),
    Rule(
        name="batch_price_changed",
        severity=Severity.CRITICAL,
        opens_when="ISBNdb's own counter shows another price of a batch than before, or than the one that is chosen. "
        "Over a day later, but not while we charge less than that",
        title="ISBNdb charges a batch otherwise than before",
        advice="“Measured prices” in the admin has the evidence; docs/troubleshooting.md says what it means.",
        check=batch_price_changed,
        expr="max(alexandria_batch_price_changed) == 1",
    ),
    Rule(
        name="sold_less",
        severity=Severity.WARNING,
        opens_when="ISBNdb, by its own answer of today, sells fewer calls a day than our daily limit. Over when it "
        "sells enough, when our limit is changed, or at midnight UTC",
        title="ISBNdb sells fewer calls a day than our daily limit",
        advice="Set the daily limit under “Switches” in the admin, or with QUOTA_DAILY_LIMIT.",
        check=sold_less,
        expr="max(alexandria_isbndb_daily_limit) < max(alexandria_quota_configured_limit)",
    ),
    Rule(
        name="workers",
        severity=Severity.CRITICAL,
        opens_when="no worker reports within ten seconds that it consumes the queue `celery` or the queue `jobs`. Also "
        "when Redis does not answer",
        title="No worker for the queue “{queue}”",
        advice="Tasks wait there until a worker starts.",
        check=workers,
    ),
    Rule(
        name="failed_cron",
        severity=Severity.WARNING,
        opens_when="the last run of a cron failed. Skipped runs do not count",
        title="The cron {cron} failed",
        advice="“Runs” in the admin shows the reasons.",
        check=failed_cron,
        expr=f'max by (cron) (alexandria_cron_last_outcome{{outcome="failed", cron!="{LEDGER_CHECK}"}}) == 1',
    ),
    Rule(
        name="failed_cron",
        severity=Severity.CRITICAL,
        opens_when=f"the last run of `{LEDGER_CHECK}` failed: the ledger does not agree with the journal",
        title="The cron {cron} failed",
        advice="“Runs” in the admin shows the reasons.",
        check=failed_ledger_check,
        alert="AlexandriaFailedLedgerCheck",
        expr=f'max by (cron) (alexandria_cron_last_outcome{{outcome="failed", cron="{LEDGER_CHECK}"}}) == 1',
    ),
    Rule(
        name="late_crons",
        severity=Severity.WARNING,
        window=CRON_GRACE,
        opens_when="a cron has not started $minutes minutes after it was due",
        title="Crons do not start on time",
        advice="Check that beat and a worker run: /healthz shows both.",
        check=late_crons,
    ),
    Rule(
        name="unstored_answers",
        severity=Severity.CRITICAL,
        opens_when="paid answers of ISBNdb are in files, because the database did not take them. Over when all are "
        "stored and no broken file is left",
        title="Paid answers of ISBNdb are not stored",
        advice="They are kept in ANSWERS_DIR: docs/deploy.md says what happens to them.",
        check=unstored_answers,
        expr="max by (state) (alexandria_answers_aside) > 0",
        value="{{ $value }} answers: {{ $labels.state }}.",
        lasts="1m",
    ),
    Rule(
        name="error_rate",
        severity=Severity.WARNING,
        threshold="ALERT_ERROR_PERCENT",
        window=ERROR_WINDOW,
        opens_when="$threshold % or more of the requests of the last $minutes minutes failed, and there were at least "
        f"{MIN_JUDGED_REQUESTS}",
        title="Many requests to ISBNdb fail",
        advice="Failed requests cost their calls. “Requests” in the admin shows what ISBNdb answered.",
        check=error_rate,
        expr=f"100 * sum({_FAILED_REQUESTS})\n/ sum({_JUDGED_REQUESTS}) >= $threshold\n"
        f"and sum(max without (instance) ({_JUDGED_REQUESTS})) >= {MIN_JUDGED_REQUESTS}",
        value="{{ $value | humanize }} % of the requests failed.",
    ),
    Rule(
        name="leases",
        severity=Severity.WARNING,
        threshold="ALERT_LEASES_EXPIRED",
        window=LEASE_WINDOW,
        opens_when="$threshold or more leases ran out within $minutes minutes",
        title="Reservations are left open until their lease runs out",
        advice="Processes die or hang with reserved calls. Look in the log for restarts and for job.claim_lost.",
        check=leases,
        expr="max(increase(alexandria_leases_expired_total[${minutes}m])) >= $threshold",
        value="{{ $value | humanize }} leases ran out.",
    ),
    Rule(
        name="log_ins",
        severity=Severity.WARNING,
        threshold=20,
        window=LOG_IN_WINDOW,
        opens_when="$threshold or more log-ins failed within $minutes minutes",
        title="Many log-ins fail",
        advice="Somebody may be guessing passwords. “Log-ins” in the admin shows who and from where.",
        check=log_ins,
        expr="max(alexandria_failed_log_ins) >= $threshold",
        value="{{ $value | humanize }} log-ins failed.",
    ),
    Rule(
        name="observing",
        severity=Severity.INFO,
        opens_when="the limits are not enforced",
        title="The limits are not enforced",
        advice="Set enforcement to “enforce” under “Switches” in the admin.",
        check=observing,
    ),
)
