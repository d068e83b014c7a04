"""Writes docs/prometheus-rules.yml: the alert rules that Prometheus can check too, and those that only it can check."""

import json
from collections.abc import Sequence
from textwrap import indent

from alexandria.alerts.models import Severity
from alexandria.alerts.rules import MINUTE, RULES, Rule

HEADER = """\
# Alerts for Prometheus (rule_files in prometheus.yml). docs/monitoring.md explains the metrics.
# `manage.py prometheus_rules` writes this file from alexandria/alerts: change the rules there. It uses the thresholds
# of your settings.
# Metrics that come from tables are the same on every machine: max() takes them once, however many are scraped.
"""

PROMETHEUS_RULES = (
    Rule(
        name="not_reconciled",
        severity=Severity.WARNING,
        threshold=3600,
        opens_when="ISBNdb's counter was not read for $threshold seconds",
        title="ISBNdb's own counter was not read for a long time",
        advice="The cron reconciliation does not run, or it fails. Drift would not be noticed.",
        expr="max(alexandria_reconciliation_age_seconds) > $threshold",
        value="The last time was {{ $value | humanizeDuration }} ago.",
        lasts="5m",
    ),
    Rule(
        name="refusals",
        severity=Severity.WARNING,
        threshold=20,
        window=15 * MINUTE,
        opens_when="more than $threshold requests of a consumer were refused for one limit within $minutes minutes",
        title="{consumer} is refused calls: {limit}",
        advice="“Refusals” in the admin shows the figures of each refusal.",
        expr="sum by (consumer, limit) (max without (instance) (increase(alexandria_refusals_total[${minutes}m])))"
        " > $threshold",
        value="{{ $value | humanize }} refusals in the last 15 minutes.",
        lasts="5m",
    ),
    Rule(
        name="calls_lost",
        severity=Severity.WARNING,
        threshold=20,
        window=15 * MINUTE,
        opens_when="more than $threshold requests have had no known outcome for $minutes minutes",
        title="Requests were dispatched and their outcome is unknown",
        advice="Processes die between dispatch and answer, or the database takes no writes. Their calls stay spent.",
        expr="max(min_over_time(alexandria_isbndb_requests_unknown[${minutes}m])) > $threshold",
        value="{{ $value }} requests.",
    ),
    Rule(
        name="reservation_stuck",
        severity=Severity.WARNING,
        threshold=3600,
        opens_when="a reservation is open for more than $threshold seconds",
        title="A reservation is open for a long time",
        advice="An operation does not end, or nobody closes expired leases. Check that a worker and beat run.",
        expr="max(alexandria_reservation_oldest_seconds) > $threshold",
        value="It is {{ $value | humanizeDuration }} old.",
        lasts="5m",
    ),
    Rule(
        name="isbndb_slow",
        severity=Severity.WARNING,
        threshold=20,
        window=15 * MINUTE,
        opens_when="5 % of ISBNdb's answers take longer than $threshold seconds",
        title="ISBNdb answers slowly",
        advice="Lower ISBNDB_BATCH_SIZE if the large batches are slow.",
        expr="histogram_quantile(0.95, sum by (le) (rate(alexandria_isbndb_latency_seconds_bucket[${minutes}m])))"
        " > $threshold",
        value="5 % of its answers take longer than {{ $value | humanizeDuration }}.",
        lasts="15m",
    ),
    Rule(
        name="queue_unattended",
        severity=Severity.CRITICAL,
        threshold=120,
        opens_when="no worker has read the queue of ISBNs for $threshold seconds",
        title="No worker reads the queue of ISBNs",
        advice="A worker or beat does not run: /healthz shows which.",
        expr="max(alexandria_queue_looked_seconds) > $threshold",
        value="The last time was {{ $value | humanizeDuration }} ago.",
        lasts="3m",
    ),
    Rule(
        name="queue_waits",
        severity=Severity.WARNING,
        threshold=172_800,
        opens_when="an ISBN has waited in the queue for more than $threshold seconds (2 days)",
        title="An ISBN has waited in the queue for a long time",
        advice="GET /api/enrich/queue shows why.",
        expr="max(alexandria_queue_oldest_seconds) > $threshold",
        value="It waits for {{ $value | humanizeDuration }}.",
    ),
    Rule(
        name="queue_failed",
        severity=Severity.WARNING,
        threshold=0,
        opens_when="an ISBN of the queue failed too often",
        title="ISBNs of the queue failed too often",
        advice="Alexandria does not try them again by itself. Retry or drop them under “Queue” in the admin.",
        expr="max(alexandria_queue_failed) > $threshold",
        value="Number of ISBNs: {{ $value }}.",
        lasts="1h",
    ),
    Rule(
        name="jobs_fail",
        severity=Severity.WARNING,
        threshold=3,
        window=60 * MINUTE,
        opens_when="more than $threshold jobs of one kind failed within $minutes minutes",
        title="Jobs fail ({kind})",
        advice="“Jobs” in the admin shows the reason of each.",
        expr='max by (kind) (increase(alexandria_jobs_ended_total{state="failed"}[${minutes}m])) > $threshold',
        value="{{ $value | humanize }} jobs failed in the last hour.",
    ),
    Rule(
        name="down",
        severity=Severity.CRITICAL,
        opens_when="Prometheus cannot scrape a machine",
        title="{instance} does not answer",
        advice="Prometheus cannot scrape it, or is not allowed to: see METRICS_ALLOW and METRICS_TOKEN.",
        expr='up{job="alexandria"} == 0',
        lasts="2m",
    ),
    Rule(
        name="database_down",
        severity=Severity.CRITICAL,
        opens_when="PostgreSQL does not answer",
        title="PostgreSQL does not answer",
        advice="No call is granted, and every request is answered with 503.",
        expr="max(alexandria_database_up) == 0",
        lasts="1m",
    ),
    Rule(
        name="decisions_slow",
        severity=Severity.WARNING,
        threshold=0.5,
        window=5 * MINUTE,
        opens_when="1 % of the quota's decisions take longer than $threshold seconds",
        title="PostgreSQL is slow to grant calls",
        advice="It is busy, or something holds the lock of the day's ledger.",
        expr="histogram_quantile(0.99, sum by (le) (rate(alexandria_quota_decision_seconds_bucket[${minutes}m])))"
        " > $threshold",
        value="1 % of the decisions take longer than {{ $value | humanizeDuration }}.",
        lasts="10m",
    ),
    Rule(
        name="server_errors",
        severity=Severity.CRITICAL,
        threshold=5,
        window=5 * MINUTE,
        opens_when="more than $threshold % of the requests of the last $minutes minutes end with a 5xx status",
        title="Many requests end with a 5xx status",
        advice="The log has each of them, by its request_id.",
        expr='100 * sum(rate(django_http_responses_total_by_status_total{status=~"5.."}[${minutes}m]))\n'
        "/ sum(rate(django_http_responses_total_by_status_total[${minutes}m])) > $threshold",
        value="{{ $value | humanize }} % of the requests.",
        lasts="10m",
    ),
)
"""Rules that need figures over time, or that are about Alexandria itself being down."""

GROUPS = {"alexandria": RULES, "alexandria-prometheus-only": PROMETHEUS_RULES}


def rules_file() -> str:
    """The YAML file, with the thresholds of the settings."""
    return f"{HEADER}groups:\n" + "\n".join(_group(name, rules) for name, rules in GROUPS.items())


def _group(name: str, rules: Sequence[Rule]) -> str:
    return f"  - name: {name}\n    rules:\n" + indent("".join(map(_rule, rules)), " " * 6)


def _rule(rule: Rule) -> str:
    if not rule.expr:
        return ""
    labels: dict[str, str] = _Labels(threshold=str(rule.limit), day="today")
    text = f"- alert: {rule.alert_name}\n  expr: |-\n{indent(rule.filled_in(rule.expr), ' ' * 4)}\n"
    if rule.lasts:
        text += f"  for: {rule.lasts}\n"
    description = f"{rule.value} {rule.advice}".strip()
    return text + (
        f"  labels: {{severity: {rule.severity.value}}}\n  annotations:\n"
        f"    summary: {_quoted(rule.title.format_map(labels))}\n    description: {_quoted(description)}\n"
    )


class _Labels(dict[str, str]):
    """Every other word in braces is a label of the metric."""

    def __missing__(self, name: str) -> str:
        return f"{{{{ $labels.{name} }}}}"


def _quoted(text: str) -> str:
    """A string of YAML, which is one of JSON too."""
    return json.dumps(text, ensure_ascii=False)
