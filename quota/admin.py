"""The operator's view of the quota. History is read-only; only consumers and switches can be changed."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import cached_property
from rest_framework_api_key.models import APIKey
from simple_history.admin import SimpleHistoryAdmin

from quota.exceptions import LedgerNotOpen
from quota.models import (
    Adjustment,
    Call,
    Consumer,
    ConsumerKey,
    ConsumerUsage,
    DailyLedger,
    Reconciliation,
    Reservation,
    Switches,
)
from quota.services.corrections import adjust, apply_limits

# The library's own keys open nothing here: ours belong to consumers.
admin.site.unregister(APIKey)
admin.site.site_header = admin.site.site_title = "Alexandria"
admin.site.index_title = "Books, quota and where every call went"


MOST_LISTED = 10_000


class LatestRows(Paginator):  # type: ignore[type-arg]
    """Of a table that grows with every call, the latest MOST_LISTED rows: it is never counted as a whole."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]  # the admin gives it nothing else
        return rows.order_by()[:MOST_LISTED].count()


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # it takes none at run time
    """History: to be looked at, not to be changed."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ConsumerUsageInline(admin.TabularInline):  # type: ignore[type-arg]
    model = ConsumerUsage
    fields = ("consumer", "used", "reserved")
    readonly_fields = fields
    can_delete = False
    extra = 0

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(DailyLedger)
class DailyLedgerAdmin(ReadOnlyAdmin):
    list_display = ("day", "used", "reserved", "safety_limit", "daily_limit", "closed_at")
    date_hierarchy = "day"
    inlines = (ConsumerUsageInline,)


@admin.register(Reservation)
class ReservationAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "consumer", "operation", "source", "state", "calls", "dispatched", "expires_at")
    list_filter = ("state", "consumer")
    list_select_related = ("consumer",)
    paginator = LatestRows
    search_fields = ("id__exact", "idempotency_key__exact")


@admin.register(Call)
class CallAdmin(ReadOnlyAdmin):
    list_display = (
        *("dispatched_at", "consumer", "operation", "method", "path", "outcome", "status", "latency_ms"),
        *("isbns_asked", "isbns_found", "calls"),
    )
    list_filter = ("outcome", "consumer", "ledger")
    list_select_related = ("consumer",)
    paginator = LatestRows
    search_fields = ("id__exact", "reservation__id__exact")


class ConsumerKeyInline(admin.TabularInline):  # type: ignore[type-arg]
    """Keys are made by `manage.py create_api_key`; here they are seen and revoked."""

    model = ConsumerKey
    fields = ("name", "prefix", "created", "expiry_date", "revoked")
    readonly_fields = ("name", "prefix", "created")
    extra = 0

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Consumer)
class ConsumerAdmin(SimpleHistoryAdmin):  # type: ignore[misc]  # it has no types
    list_display = ("slug", "kind", "floor", "daily_budget", "cap_per_operation", "active")
    list_filter = ("kind", "active")
    search_fields = ("slug",)
    inlines = (ConsumerKeyInline,)
    actions = ("switch_off", "switch_on")

    @admin.action(description="Switch off: refuse every request")
    def switch_off(self, request: HttpRequest, consumers: QuerySet[Consumer]) -> None:
        self._switch(request, consumers, active=False)

    @admin.action(description="Switch on")
    def switch_on(self, request: HttpRequest, consumers: QuerySet[Consumer]) -> None:
        self._switch(request, consumers, active=True)

    def _switch(self, request: HttpRequest, consumers: QuerySet[Consumer], *, active: bool) -> None:
        changed = list(consumers.exclude(active=active))
        for consumer in changed:
            consumer.active = active
            consumer.save(update_fields=["active"])  # one by one: update() leaves no history
            self.log_change(request, consumer, "Switched on." if active else "Switched off.")
        word = "consumer" if len(changed) == 1 else "consumers"
        messages.success(request, f"{len(changed)} {word} switched {'on' if active else 'off'}.")


class SwitchesForm(forms.ModelForm):  # type: ignore[type-arg]
    apply_to_today = forms.BooleanField(
        required=False,
        label="Also give today's ledger these limits",
        help_text="Otherwise limits and pace hold from the next day that is opened. Used calls stay used.",
    )


@admin.register(Switches)
class SwitchesAdmin(SimpleHistoryAdmin):  # type: ignore[misc]
    """The one row, with its history. There is no list: its page is what the link leads to."""

    form = SwitchesForm
    fieldsets = (
        ("At once, everywhere", {"fields": ("enforcement", "harvest_enabled")}),
        ("Limits", {"fields": ("daily_limit", "safety_buffer", "max_rps", "apply_to_today")}),
    )
    history_list_display = ("enforcement", "harvest_enabled", "daily_limit", "safety_buffer", "max_rps")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
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
        said = (
            f"Today's ledger has these limits now: {limits.daily_limit:,} calls a day, {limits.safety_buffer:,} of it "
            f"never touched, {limits.max_rps} a second."
        )
        self.log_change(request, switches, said)
        messages.success(request, said)


class AdjustmentForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        """Refuses, field by field, what `adjust` would refuse."""
        given: dict[str, Any] = super().clean() or {}
        ledger, consumer, calls = given.get("ledger"), given.get("consumer"), given.get("calls")
        if calls == 0:
            self.add_error("calls", "Above 0 to raise what is used, below 0 to lower it.")
        if ledger and consumer and calls and calls < 0:
            usage = ConsumerUsage.objects.filter(ledger=ledger, consumer=consumer).first()
            used = usage.used if usage else 0
            if used + calls < 0:
                self.add_error("calls", f"{consumer} has used {used:,} calls on that day: no more can be taken back.")
        return given


@admin.register(Adjustment)
class AdjustmentAdmin(ReadOnlyAdmin):
    """A person's word on what was used. It can be added to, never changed: a mistake is put right by another."""

    form = AdjustmentForm
    fields = ("ledger", "consumer", "calls", "reason")
    list_display = ("created_at", "ledger", "consumer", "calls", "reason", "made_by", "made_with")
    list_select_related = ("consumer", "made_by")
    list_filter = ("consumer",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("quota.add_adjustment"))

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Without Django's transaction around it: the quota's own must not be part of another."""
        page: HttpResponse = self._changeform_view(request, *args, **kwargs)  # type: ignore[attr-defined]
        return page

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
        obj.refresh_from_db()


@admin.register(Reconciliation)
class ReconciliationAdmin(ReadOnlyAdmin):
    list_display = ("answered_at", "spent", "used", "drift", "in_flight", "raised_by", "key_charged", "ignored")
    list_filter = ("key_charged",)
    date_hierarchy = "answered_at"
