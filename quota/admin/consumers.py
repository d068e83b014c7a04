"""Consumers: who may spend calls, how many, and with which API keys."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from rest_framework_api_key.models import APIKey
from simple_history.admin import SimpleHistoryAdmin
from unfold.views import ChangeList

from alexandria.common.admin import ModelAdmin, WithFigures
from alexandria.common.reasons import (
    REASON_FIELDSET,
    ReasonedAdmin,
    ReasonField,
    action_fields,
    confirm_page,
    reason_form,
)
from alexandria.common.text import as_people_read, counted
from alexandria.common.widgets import Part, cell, parts
from quota.admin import keys
from quota.limits import CONSUMER_FIELDS, REASONS
from quota.models import Consumer, ConsumerKey
from quota.selectors.allowances import Allowance, allowances
from quota.selectors.consumer_limits import consumer_limits

# The library's own key model is not used: our keys belong to consumers.
admin.site.unregister(APIKey)


class ConsumerForm(forms.ModelForm):  # type: ignore[type-arg]
    reason = ReasonField()


class ConsumerList(ChangeList):
    """Adds the use of today to each row, with one query for all rows."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        found = allowances(self.result_list)
        for consumer in self.result_list:
            consumer.allowance = found[consumer.pk]


@admin.register(Consumer)
class ConsumerAdmin(WithFigures, ReasonedAdmin, SimpleHistoryAdmin, ModelAdmin):
    form = ConsumerForm
    list_display = ("slug", "kind", "use_today", "free_today", "floor", "daily_budget", "cap_per_operation", "active")
    list_filter = ("kind", "active")
    search_fields = ("slug",)
    list_disable_select_all = True
    actions = ("switch_off", "switch_on")
    fieldsets = (
        (None, {"fields": ("slug", "kind", "active")}),
        ("Limits, in calls", {"fields": CONSUMER_FIELDS}),
        REASON_FIELDSET,
    )
    custom_urls = (
        ("<int:pk>/keys/add/", "quota_consumer_key_add", keys.new_key),
        ("<int:pk>/keys/<str:prefix>/rotate/", "quota_consumer_key_rotate", keys.rotate),
        ("<int:pk>/keys/<str:prefix>/revoke/", "quota_consumer_key_revoke", keys.revoke),
    )

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"daily_budget": settings.CONSUMER_DAILY_BUDGET} | super().get_changeform_initial_data(request)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ConsumerList]:
        return ConsumerList

    @admin.display(description="used today")
    def use_today(self, consumer: Any) -> str:
        allowance: Allowance = consumer.allowance
        budget = "" if consumer.daily_budget is None else f" of {consumer.daily_budget:,}"
        return cell(f"{allowance.used:,}{budget}", _parts(allowance))

    @admin.display(description="free for one operation")
    def free_today(self, consumer: Any) -> str:
        return f"{consumer.allowance.free:,}, {_limited_by(consumer.allowance)}"

    def figures(self, row: Consumer) -> dict[str, Any]:
        """Its use of today, its limits that are not calls, and its keys, each with its state."""
        allowance = allowances([row])[row.pk]
        return {
            "allowance": allowance,
            "limited_by": _limited_by(allowance),
            "parts": _parts(allowance),
            "limits": consumer_limits(row),
            "keys": [(key, _state(key), not (key.revoked or key.has_expired)) for key in row.keys.all()],
        }

    def has_delete_permission(self, request: HttpRequest, obj: Consumer | None = None) -> bool:
        """A consumer that has spent calls cannot be deleted, because ledgers refer to it. Switch it off instead."""
        has_spent = obj is not None and obj.usages.exists()
        return not has_spent and super().has_delete_permission(request, obj)

    @admin.action(description="Switch off (refuses all its requests)", permissions=["change"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[Consumer]) -> HttpResponse | None:
        return self._switch(request, queryset, active=False)

    @admin.action(description="Switch on", permissions=["change"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[Consumer]) -> HttpResponse | None:
        return self._switch(request, queryset, active=True)

    def _switch(self, request: HttpRequest, consumers: QuerySet[Consumer], *, active: bool) -> HttpResponse | None:
        word = "on" if active else "off"
        form = reason_form(request)
        if not form.is_valid():
            return confirm_page(
                request,
                form,
                title=f"Switch consumers {word}",
                question=f"Switch {word}: {', '.join(str(consumer) for consumer in consumers)}?",
                lines=["This takes effect immediately."],
                button=f"Switch {word}",
                back=request.get_full_path(),
                hidden=action_fields(request),
            )
        changed = list(consumers.exclude(active=active))
        with transaction.atomic():
            for consumer in changed:
                consumer.active = active
                consumer._change_reason = form.cleaned_data["reason"][:100]  # type: ignore[attr-defined]  # noqa: SLF001
                consumer.save(update_fields=["active"])  # one by one, because update() writes no history
                self.log_change(request, consumer, f"Switched {word}. Reason: {form.cleaned_data['reason']}")
        messages.success(request, f"{counted(len(changed), 'consumer')} switched {word}.")
        return None


def _parts(allowance: Allowance) -> list[Part]:
    """A bar of the consumer's budget. Without a budget: a bar of the safety limit, which all consumers share."""
    budget, spent = allowance.consumer.daily_budget, allowance.used + allowance.reserved
    own = [("used", "used", allowance.used), ("reserved", "reserved", allowance.reserved)]
    if budget is not None:
        return parts([*own, ("left of its budget", "free", max(0, budget - spent))])
    day = allowance.quota
    others = max(0, day.used + day.reserved - spent)
    return parts([*own, ("used or reserved by others", "buffer", others), ("left today", "free", day.remaining)])


def _limited_by(allowance: Allowance) -> str:
    if not allowance.consumer.active:
        return "but this consumer is switched off"
    return f"limit: {REASONS[allowance.limited_by].label}"


def _state(key: ConsumerKey) -> str:
    if key.revoked:
        return "revoked"
    if key.expiry_date is None:
        return "valid"
    return f"{'expired' if key.has_expired else 'valid until'} {as_people_read(key.expiry_date)}"
