"""The operator's view of the quota. History is read-only; only consumers can be changed."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from rest_framework_api_key.models import APIKey

from quota.models import Call, Consumer, ConsumerKey, ConsumerUsage, DailyLedger, Reservation

# The library's own keys open nothing here: ours belong to consumers.
admin.site.unregister(APIKey)
admin.site.site_header = admin.site.site_title = "Alexandria"
admin.site.index_title = "Books, quota and where every call went"


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
    search_fields = ("id__exact", "idempotency_key__exact")


@admin.register(Call)
class CallAdmin(ReadOnlyAdmin):
    list_display = (
        *("dispatched_at", "consumer", "operation", "method", "path", "outcome", "status", "latency_ms"),
        *("isbns_asked", "isbns_found", "calls"),
    )
    list_filter = ("outcome", "consumer", "ledger")
    list_select_related = ("consumer",)
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
class ConsumerAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
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
        consumers.update(active=active)
        for consumer in changed:
            self.log_change(request, consumer, "Switched on." if active else "Switched off.")
        word = "consumer" if len(changed) == 1 else "consumers"
        messages.success(request, f"{len(changed)} {word} switched {'on' if active else 'off'}.")
