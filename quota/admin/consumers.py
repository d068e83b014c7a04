"""Who may spend, how much, and with which keys."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from rest_framework_api_key.models import APIKey
from simple_history.admin import SimpleHistoryAdmin
from unfold.admin import ModelAdmin

from quota.admin.base import LabelledInline
from quota.models import Consumer, ConsumerKey

# The library's own keys open nothing here: ours belong to consumers.
admin.site.unregister(APIKey)


class ConsumerKeyInline(LabelledInline):
    """Keys are made by `manage.py create_api_key`; here they are seen and revoked."""

    model = ConsumerKey
    fields = ("name", "prefix", "created", "sees_all", "expiry_date", "revoked")
    readonly_fields = ("name", "prefix", "created")
    extra = 0

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Consumer)
class ConsumerAdmin(SimpleHistoryAdmin, ModelAdmin):
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
