"""The days, and who used what of each."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import TabularInline

from quota.admin.base import ReadOnlyAdmin
from quota.models import ConsumerUsage, DailyLedger


class ConsumerUsageInline(TabularInline):
    model = ConsumerUsage
    fields = ("consumer", "used", "reserved")
    readonly_fields = fields
    can_delete = False
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[ConsumerUsage]:
        usages: QuerySet[ConsumerUsage] = super().get_queryset(request)
        return usages.select_related("consumer")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(DailyLedger)
class DailyLedgerAdmin(ReadOnlyAdmin):
    list_display = ("day", "used", "reserved", "safety_limit", "daily_limit", "closed_at")
    date_hierarchy = "day"
    inlines = (ConsumerUsageInline,)
