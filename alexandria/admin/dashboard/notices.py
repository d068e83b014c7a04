"""What needs somebody's attention now."""

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.urls import reverse

from alexandria.alerts.models import Severity
from alexandria.alerts.rules import but_lower_steps
from alexandria.alerts.selectors import open_alerts
from enrichment.selectors import queue_warning
from quota.selectors.status import QuotaStatus

TOLD_AT_ONCE = ("closed_day", "observing")
"""Rules of alerts whose matter the status shows, too."""


@dataclass(frozen=True)
class Notice:
    """One sentence at the top of the dashboard. `level`: "danger" or "warning". `url`: where to look, if anywhere."""

    level: str
    text: str
    url: str = ""


def current_alerts(status: QuotaStatus, *, user: User | AnonymousUser) -> list[Notice]:
    """The open alerts, and what stands in the way of calls at this moment: the gravest first.

    An alert takes minutes to open and to recover; what the status shows is told at once, and from the status alone.
    Links are those that `user` may follow.

    Raises QuotaUnavailable.
    """

    def link(permission: str, page: str, *args: Any) -> str:
        return reverse(page, args=args) if user.has_perm(permission) else ""

    alerts = [alert for alert in but_lower_steps(open_alerts()) if alert.rule not in TOLD_AT_ONCE]
    notices = [
        Notice(
            "danger" if alert.severity == Severity.CRITICAL else "warning",
            f"{alert.title}. {alert.detail}",
            link("alerts.view_alert", "admin:alerts_alert_change", alert.pk),
        )
        for alert in alerts
    ]
    switches = link("quota.view_switches", "admin:quota_switches_changelist")
    if status.closed_reason is not None:
        ledger = link("quota.view_dailyledger", "admin:quota_dailyledger_change", status.day)
        notices.append(Notice("danger", f"The day is closed. {status.closed_reason}", ledger))
    if status.enforcement == "observe":
        notices.append(Notice("warning", "Observe mode: calls are counted, and none is refused.", switches))
    if not status.harvest_enabled:
        off = "Harvesting is switched off: crons and bulk work are refused every call, and the queue waits."
        notices.append(Notice("warning", off, switches))
    elif warning := queue_warning(status):
        notices.append(
            Notice("warning", warning, link("enrichment.view_queuedisbn", "admin:enrichment_queuedisbn_changelist"))
        )
    return sorted(notices, key=lambda notice: notice.level)
