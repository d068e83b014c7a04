"""The metrics of alerts."""

from collections import Counter
from collections.abc import Iterator

from django.utils import timezone
from prometheus_client.core import Metric

from alexandria.alerts.models import Severity
from alexandria.alerts.selectors import open_alerts
from alexandria.alerts.snapshot import LOG_IN_WINDOW
from alexandria.logins.throttling import failures_since
from quota.metrics import gauges


def collect() -> Iterator[Metric]:
    counts = Counter(alert.severity for alert in open_alerts())
    rows = (([severity.value], counts[severity]) for severity in Severity)
    yield gauges("alerts_open", "Open alerts, by severity.", ["severity"], rows)
    failed = failures_since(timezone.now() - LOG_IN_WINDOW)
    yield gauges("failed_log_ins", "Log-ins that failed in the last hour.", [], [([], failed)])
