"""What needs attention now."""

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.urls import reverse

from alexandria.alerts.models import Severity
from alexandria.alerts.rules import but_lower_steps
from alexandria.alerts.selectors import open_alerts
from enrichment.selectors.queue import queue_warning
from quota.selectors.status import QuotaStatus

LEVELS = {Severity.CRITICAL: "danger", Severity.WARNING: "warning", Severity.INFO: "info"}
SHOWN_AT_ONCE = ("closed_day", "observing")
"""Alert rules whose notices come from the quota's status instead: it shows them without delay."""


@dataclass(frozen=True)
class Notice:
    """One message at the top of the dashboard. `level` is one of LEVELS, `url` the page to look at, if any."""

    level: str
    text: str
    url: str = ""


def current_notices(status: QuotaStatus, *, user: User | AnonymousUser) -> list[Notice]:
    """The open alerts, and what stops calls at this moment, the most severe first.

    An alert opens and recovers minutes later. What the quota's status itself shows is therefore read from the status
    alone. A notice links only to a page that `user` is permitted to open.

    Raises QuotaUnavailable.
    """

    def link(permission: str, page: str, *args: Any) -> str:
        return reverse(page, args=args) if user.has_perm(permission) else ""

    alerts = [alert for alert in but_lower_steps(open_alerts()) if alert.rule not in SHOWN_AT_ONCE]
    notices = [
        Notice(
            LEVELS[Severity(alert.severity)],
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
        notices.append(Notice("warning", "Observe mode: calls are counted, but none is refused.", switches))
    if not status.harvest_enabled:
        text = "Harvesting is switched off: crons and bulk harvests get no calls. The queue of API clients goes on."
        notices.append(Notice("warning", text, switches))
    elif warning := queue_warning(status):
        notices.append(
            Notice("warning", warning, link("enrichment.view_queuedisbn", "admin:enrichment_queuedisbn_changelist"))
        )
    return sorted(notices, key=lambda notice: list(LEVELS.values()).index(notice.level))
