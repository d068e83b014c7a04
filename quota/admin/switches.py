"""The switches: settings that can be changed at run time."""

from dataclasses import asdict
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from simple_history.admin import SimpleHistoryAdmin

from alexandria.common.admin import ModelAdmin
from alexandria.common.reasons import REASON_FIELDSET, ReasonedAdmin, ReasonField
from alexandria.common.text import counted
from quota.exceptions import LedgerNotOpen, QuotaError
from quota.models import Switches
from quota.selectors.prices import get_prices
from quota.services.corrections import apply_limits


class SwitchesForm(forms.ModelForm):  # type: ignore[type-arg]
    reason = ReasonField()
    apply_to_today = forms.BooleanField(
        required=False,
        label="Apply the limits to today, too",
        help_text="Without this, new limits begin with the next day (UTC). Calls already used stay used.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Shows the default in each empty field."""
        super().__init__(*args, **kwargs)
        for name, value in asdict(Switches().day_limits()).items():
            if name in self.fields:
                self.fields[name].widget.attrs["placeholder"] = value


@admin.register(Switches)
class SwitchesAdmin(ReasonedAdmin, SimpleHistoryAdmin, ModelAdmin):
    """There is one row, so the link in the sidebar opens its page instead of a list."""

    form = SwitchesForm
    fieldsets = (
        (
            "Effective immediately, in all processes",
            {"fields": ("enforcement", "harvest_enabled", "batch_price", "price_in_force")},
        ),
        ("Limits", {"fields": ("daily_limit", "safety_buffer", "max_rps", "apply_to_today")}),
        REASON_FIELDSET,
    )
    history_list_display = ("enforcement", "harvest_enabled", "batch_price", "daily_limit", "safety_buffer", "max_rps")
    readonly_fields = ("price_in_force",)

    @admin.display(description="price in force")
    def price_in_force(self, switches: Switches) -> str:
        return get_prices().in_words

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        switches, _ = Switches.objects.get_or_create(pk=1)
        return HttpResponseRedirect(reverse("admin:quota_switches_change", args=[switches.pk]))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Switches, form: SwitchesForm, change: bool) -> None:  # noqa: FBT001
        super().save_model(request, obj, form, change)
        if form.cleaned_data["apply_to_today"]:
            transaction.on_commit(lambda: self._apply_limits(request, obj))

    def _apply_limits(self, request: HttpRequest, switches: Switches) -> None:
        try:
            limits = apply_limits()
        except LedgerNotOpen as error:
            messages.warning(request, str(error))
            return
        except QuotaError as error:
            messages.error(request, f"The switches are saved, but today's ledger keeps its old limits. {error}")
            return
        message = (
            f"Today's ledger now has these limits: {limits.daily_limit:,} calls a day, a safety buffer of "
            f"{limits.safety_buffer:,} calls, {counted(limits.max_rps, 'request')} a second."
        )
        self.log_change(request, switches, message)
        messages.success(request, message)
