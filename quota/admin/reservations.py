"""Calls that are set aside, and those that were."""

from django.contrib import admin
from unfold.paginator import InfinitePaginator

from quota.admin.base import ReadOnlyAdmin
from quota.models import Reservation


@admin.register(Reservation)
class ReservationAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "consumer", "operation", "source", "state", "calls", "dispatched", "expires_at")
    list_filter = ("state", "consumer")
    list_select_related = ("consumer",)
    paginator = InfinitePaginator
    search_fields = ("id__exact", "idempotency_key__exact")
