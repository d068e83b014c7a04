"""Corrections of ledgers: adjustments by people, and reconciliations with ISBNdb's own counter."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action

from alexandria.common.admin import ReadOnlyAdmin, WithoutTransaction
from alexandria.common.reasons import ReasonForm, close_dialog, confirm_dialog
from alexandria.common.text import counted
from quota.exceptions import CorrectionRefused, QuotaError
from quota.models import Adjustment, PriceMeasurement, Reconciliation
from quota.services.corrections import adjust, take_figure, would_adjust


class AdjustmentForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        """Shows next to the number why `adjust` would refuse it."""
        given: dict[str, Any] = super().clean() or {}
        if not self.errors:
            try:
                would_adjust(
                    calls=given["calls"],
                    reason=given["reason"],
                    consumer=given["consumer"].slug,
                    day=given["ledger"].day,
                )
            except CorrectionRefused as refused:
                self.add_error("calls", str(refused))
        return given


@admin.register(Adjustment)
class AdjustmentAdmin(ReadOnlyAdmin, WithoutTransaction):  # type: ignore[misc]  # the same method, with other stubs
    """A person's correction of the calls used. It cannot be changed: correct a mistake with another adjustment."""

    form = AdjustmentForm
    fields = ("ledger", "consumer", "calls", "reason")
    list_display = ("created_at", "ledger", "consumer", "calls", "reason", "made_by", "made_with")
    list_select_related = ("ledger", "consumer", "made_by")
    list_filter = ("consumer",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("quota.add_adjustment"))

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Runs without Django's transaction, because the quota's own transaction must not be nested in another."""
        try:
            page: HttpResponse = super().changeform_view(request, *args, **kwargs)
        except QuotaError as error:
            messages.error(request, f"The ledger was not changed. {error}")
            return HttpResponseRedirect(request.get_full_path())
        return page

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:  # noqa: FBT001, FBT002
        return f"Adjusted by {form.cleaned_data['calls']:+,}. Reason: {form.cleaned_data['reason']}"

    def save_model(self, request: HttpRequest, obj: Adjustment, form: AdjustmentForm, change: bool) -> None:  # noqa: FBT001
        made = adjust(
            calls=obj.calls,
            reason=obj.reason,
            consumer=obj.consumer.slug,
            day=obj.ledger_id,
            made_by=request.user,
            made_with="the admin",
        )
        obj.pk = made.pk


@admin.register(Reconciliation)
class ReconciliationAdmin(ReadOnlyAdmin):
    list_display = (
        "answered_at",
        "spent",
        "left",
        "used",
        "drift",
        "in_flight",
        "raised_by",
        "price_seen",
        "total",
        "missing",
        "limit_to",
        "day_change",
        "ignored",
    )
    list_select_related = ("ledger",)
    list_filter = ("price_seen", "day_change")
    date_hierarchy = "answered_at"
    actions_detail = ("take_figure",)

    def has_take_figure_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return bool(request.user.has_perm("quota.add_adjustment"))

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[UnfoldAction]:
        """With the button only where our count is higher. The service says whether it is still the newest answer."""
        seen = self.get_object(request, object_id)
        if seen is None or not seen.excess or seen.adjustments.exists():
            return []
        offered: list[UnfoldAction] = super().get_actions_detail(request, object_id)
        return offered

    @action(
        description="Take ISBNdb's figure",
        url_path="take-figure",
        permissions=["take_figure"],
        icon="balance",
        dialog=confirm_dialog(
            "Take ISBNdb's figure?",
            "Our count of today is lowered to ISBNdb's, and the calls are granted again. If this page shows a price of "
            "a batch, that price is in force from then on. Be sure that ISBNdb's counter does not lag: ask it again "
            "after a few minutes in which nothing was sent, and look whether the difference stays.",
            "Take ISBNdb's figure",
            ReasonForm,
        ),
    )
    def take_figure(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        reason = form.cleaned_data["reason"]
        seen = Reconciliation.objects.get(pk=object_id)
        try:
            calls = take_figure(seen, reason=reason, made_with="the admin", made_by=request.user)
        except QuotaError as error:
            messages.error(request, f"Our count was not lowered. {error}")
        else:
            self.log_change(request, seen, f"Took back {counted(calls, 'call')}. Reason: {reason}")
            messages.success(request, f"{counted(calls, 'call')} were taken back.")
        return close_dialog(request, reverse("admin:quota_reconciliation_change", args=[object_id]))


@admin.register(PriceMeasurement)
class PriceMeasurementAdmin(ReadOnlyAdmin):
    """What is known of ISBNdb's prices, with ISBNdb's own counts as evidence."""

    list_display = ("measured_at", "how", "batch_price", "key_price", "counts", "note")
    list_filter = ("how", "batch_price", "key_price")
    date_hierarchy = "measured_at"

    @admin.display(description="ISBNdb's counts")
    def counts(self, measurement: PriceMeasurement) -> str:
        return measurement.counts
