"""Everything that only reads the alerts."""

from alexandria.alerts.models import Alert, Severity


def open_alerts() -> list[Alert]:
    """The alerts that are open, the most severe and then the newest first."""
    alerts = Alert.objects.filter(recovered_at=None).order_by("-opened_at")
    return sorted(alerts, key=lambda alert: -Severity(alert.severity).rank)
