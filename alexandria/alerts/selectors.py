"""Queries of alerts."""

from alexandria.alerts.models import Alert, Severity


def open_alerts() -> list[Alert]:
    """The open alerts, the most severe first, then the newest."""
    alerts = Alert.objects.filter(recovered_at=None).order_by("-opened_at")
    return sorted(alerts, key=lambda alert: -Severity(alert.severity).rank)
