"""The journal."""

from django.contrib import admin
from unfold.paginator import InfinitePaginator

from quota.admin.base import ReadOnlyAdmin
from quota.models import Call


@admin.register(Call)
class CallAdmin(ReadOnlyAdmin):
    list_display = (
        *("dispatched_at", "consumer", "operation", "method", "path", "outcome", "status", "latency_ms"),
        *("isbns_asked", "isbns_found", "calls"),
    )
    list_filter = ("outcome", "consumer", "ledger")
    list_select_related = ("consumer",)
    paginator = InfinitePaginator
    search_fields = ("id__exact", "reservation__id__exact")
