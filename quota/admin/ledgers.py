"""The daily ledgers, and who used how many calls of each day."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import IntegerField, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action

from alexandria.common.admin import ReadOnlyAdmin, WithFigures
from alexandria.common.exports import Row
from alexandria.common.reasons import ReasonForm, close_dialog, confirm_dialog
from alexandria.common.widgets import Part, cell, parts_of_day, percentage, share
from quota.admin.exports import ExportMixin
from quota.exceptions import QuotaError
from quota.models import DailyLedger, Reconciliation
from quota.selectors.days import DayInFigures, day_in_figures
from quota.selectors.exports import USAGE_COLUMNS, usage_rows
from quota.selectors.status import get_status
from quota.services.corrections import reopen_day


@admin.register(DailyLedger)
class DailyLedgerAdmin(WithFigures, ExportMixin, ReadOnlyAdmin):
    """The usage history. The page of a day shows who used calls, when, and with which outcomes."""

    list_display = ("day", "use", "percentage", "reserved_calls", "free", "sent", "drift", "closed_at")
    date_hierarchy = "day"
    sortable_by = ("day",)
    export_name = "usage"
    export_columns = USAGE_COLUMNS
    actions_detail = ("reopen",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[DailyLedger]:
        raised = Reconciliation.objects.filter(ledger=OuterRef("pk")).order_by().values("ledger")
        drift = Subquery(raised.annotate(calls=Sum("raised_by")).values("calls"), output_field=IntegerField())
        return super().get_queryset(request).annotate(drift_found=Coalesce(drift, 0))

    def export_rows(self, request: HttpRequest, queryset: QuerySet[DailyLedger]) -> Iterator[Row]:
        return usage_rows(queryset)

    @admin.display(description="used")
    def use(self, ledger: DailyLedger) -> str:
        return cell(f"{ledger.used:,} of {ledger.safety_limit:,}", _parts(ledger))

    @admin.display(description="%")
    def percentage(self, ledger: DailyLedger) -> str:
        return percentage(ledger.used, max(1, ledger.safety_limit))

    @admin.display(description="reserved")
    def reserved_calls(self, ledger: DailyLedger) -> str:
        return f"{ledger.reserved:,}"

    @admin.display(description="free")
    def free(self, ledger: DailyLedger) -> str:
        return f"{ledger.free:,}"

    @admin.display(description="requests")
    def sent(self, ledger: DailyLedger) -> str:
        return f"{ledger.requests:,}"

    @admin.display(description="drift")
    def drift(self, ledger: DailyLedger) -> str:
        return f"{ledger.drift_found:+,}" if ledger.drift_found else "0"  # type: ignore[attr-defined]  # annotated

    def has_reopen_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return bool(request.user.has_perm("quota.reopen_dailyledger"))

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[UnfoldAction]:
        """Without the button on a day that is open or over. A click on an outdated page shows an error."""
        ledger = self.get_object(request, object_id)
        if ledger is None or not ledger.is_closed or ledger.day != get_status().day:
            return []
        offered: list[UnfoldAction] = super().get_actions_detail(request, object_id)
        return offered

    @action(
        description="Open the day again",
        url_path="reopen",
        permissions=["reopen"],
        icon="lock_open",
        dialog=confirm_dialog(
            "Open the day again?",
            "Calls are granted again at once. If ISBNdb has none left, its next answer closes the day again, and the "
            "requests until then are refused and still counted.",
            "Open the day again",
            ReasonForm,
        ),
    )
    def reopen(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        reason = form.cleaned_data["reason"]
        try:
            reopening = reopen_day(reason=reason, made_with="the admin", made_by=request.user)
        except QuotaError as error:
            messages.error(request, f"The day was not opened again. {error}")
        else:
            self.log_change(request, reopening.ledger, f"Opened the closed day again. Reason: {reason}")
            messages.success(request, "The day is open again.")
        return close_dialog(request, reverse("admin:quota_dailyledger_change", args=[object_id]))

    def figures(self, row: DailyLedger) -> dict[str, Any]:
        return {"title": str(row), **_figures(day_in_figures(row))}


def _figures(day: DayInFigures) -> dict[str, Any]:
    """The context of a day's page: each number with its bar."""
    ledger = day.ledger
    busiest = max([1, *day.hours])
    sent = max(1, sum(requests for _, requests, _ in day.outcomes))
    used = max(1, ledger.used)
    return {
        "day": day,
        "kept_days": settings.JOURNAL_KEEP_DAYS,
        "percentage": percentage(ledger.used, max(1, ledger.safety_limit)),
        "parts": _parts(ledger),
        "consumers": [(usage, percentage(usage.used, used), share(usage.used, used)) for usage in day.usages],
        "hours": [(f"{hour:02}:00", calls, share(calls, busiest)) for hour, calls in enumerate(day.hours)],
        "outcomes": [
            (outcome, requests, calls, percentage(requests, sent), share(requests, sent))
            for outcome, requests, calls in day.outcomes
        ],
    }


def _parts(ledger: DailyLedger) -> list[Part]:
    return parts_of_day(
        daily_limit=ledger.daily_limit,
        safety_limit=ledger.safety_limit,
        used=ledger.used,
        reserved=ledger.reserved,
        is_closed=ledger.is_closed,
    )
