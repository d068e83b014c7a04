"""The operator's view of the quota. History is read-only; only consumers and switches can be changed."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html_join
from rest_framework_api_key.models import APIKey
from simple_history.admin import SimpleHistoryAdmin

from quota.exceptions import CorrectionRefused, LedgerNotOpen, QuotaError, QuotaRefused
from quota.models import (
    Adjustment,
    Call,
    Consumer,
    ConsumerKey,
    ConsumerUsage,
    DailyLedger,
    Reconciliation,
    Refusal,
    Reservation,
    Switches,
)
from quota.services.corrections import adjust, apply_limits, would_adjust

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


@admin.register(Refusal)
class RefusalAdmin(ReadOnlyAdmin):
    """Why was this refused? The id comes from a 429 or from the log."""

    list_display = ("at", "consumer", "operation", "source", "limit", "asked", "free", "times", "retry_at")
    list_filter = ("limit", "consumer")
    list_select_related = ("consumer",)
    paginator = LatestRows
    search_fields = ("id__exact",)
    search_help_text = "The id, as the 429 and the log have it."
    fieldsets = (
        (None, {"fields": ("id", "at", "consumer", "operation", "source")}),
        ("Because", {"fields": ("limit", "because", "asked", "free", "retry_at", "times", "last_at")}),
        ("In calls, at that moment", {"fields": ("of_the_day", "of_the_consumer", "held_by")}),
    )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        title = {"title": "Why was this refused?"}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **title})

    @admin.display
    def because(self, refusal: Refusal) -> str:
        return QuotaRefused.EXPLANATIONS[refusal.limit]

    @admin.display(description="the day")
    def of_the_day(self, refusal: Refusal) -> str:
        names = ("daily_limit", "safety_limit", "used", "reserved")
        return _figures({name.replace("_", " "): refusal.figures[name] for name in names})

    @admin.display(description="the consumer")
    def of_the_consumer(self, refusal: Refusal) -> str:
        names = ("floor", "daily_budget", "cap_per_operation", "consumer_used", "consumer_reserved")
        return _figures({name.removeprefix("consumer_").replace("_", " "): refusal.figures[name] for name in names})

    @admin.display(description="set aside by")
    def held_by(self, refusal: Refusal) -> str:
        held: dict[str, int] = refusal.figures["held_by"]
        return _figures({slug: held[slug] for slug in sorted(held, key=held.__getitem__, reverse=True)}) or "nobody"


def _figures(figures: Mapping[str, int | None]) -> str:
    return format_html_join(
        "", "{}: {}<br>", ((name, "none" if figure is None else f"{figure:,}") for name, figure in figures.items())
    )


class ConsumerKeyInline(admin.TabularInline):  # type: ignore[type-arg]
    """Keys are made by `manage.py create_api_key`; here they are seen and revoked."""

    model = ConsumerKey
    fields = ("name", "prefix", "created", "sees_all", "expiry_date", "revoked")
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
        except QuotaError as error:
            messages.error(request, f"The switches are saved. Today's ledger keeps its limits: {error}")
            return
        said = (
            f"Today's ledger has these limits now: {limits.daily_limit:,} calls a day, {limits.safety_buffer:,} of it "
            f"never touched, {limits.max_rps} a second."
        )
        self.log_change(request, switches, said)
        messages.success(request, said)


class AdjustmentForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        """Refuses, beside the figure, what `adjust` would refuse."""
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
        try:
            page: HttpResponse = self._changeform_view(request, *args, **kwargs)  # type: ignore[attr-defined]
        except QuotaError as error:
            messages.error(request, f"Nothing was put right. {error}")
            return HttpResponseRedirect(request.get_full_path())
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


@admin.register(Reconciliation)
class ReconciliationAdmin(ReadOnlyAdmin):
    list_display = (
        *("answered_at", "spent", "used", "drift", "in_flight", "raised_by", "total", "missing"),
        *("key_charged", "ignored"),
    )
    list_select_related = ("ledger",)
    list_filter = ("key_charged",)
    date_hierarchy = "answered_at"
