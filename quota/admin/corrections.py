"""Corrections of ledgers: adjustments by people, and reconciliations with ISBNdb's own counter."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from alexandria.common.admin import ReadOnlyAdmin, WithoutTransaction
from quota.exceptions import CorrectionRefused, QuotaError
from quota.models import Adjustment, Reconciliation
from quota.services.corrections import adjust, would_adjust


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
class AdjustmentAdmin(ReadOnlyAdmin, WithoutTransaction):
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
        "total",
        "missing",
        "key_charged",
        "day_change",
        "ignored",
    )
    list_select_related = ("ledger",)
    list_filter = ("key_charged", "day_change")
    date_hierarchy = "answered_at"
