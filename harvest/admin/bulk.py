"""How far each bulk harvest is, and what came of its authors."""

from typing import Any

from django.contrib import admin
from django.db.models import CharField, Count, OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Cast, Coalesce, Concat, Now
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from harvest.models import BulkAuthor, BulkHarvest
from harvest.models.bulk import BULK_SOURCE
from quota.admin.base import ReadOnlyAdmin
from quota.models import Reservation

_TOTALS = ("progress", "failed", "books", "calls")


@admin.register(BulkHarvest)
class BulkHarvestAdmin(ReadOnlyAdmin):
    list_display = [
        "__str__",
        "label",
        "standing",
        "started_at",
        "ended_at",
        "progress",
        "failed",
        "books",
        "calls",
        "reason",
    ]
    list_filter = ["state"]
    date_hierarchy = "started_at"
    search_fields = ["label"]
    fieldsets = [
        (None, {"fields": ["label", "standing", "reason", "max_pages", "started_at", "ended_at"]}),
        ("Figures", {"fields": [*_TOTALS, "authors_link"]}),
        ("Process", {"fields": ["host", "pid", "lease_until"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkHarvest]:
        queryset: QuerySet[BulkHarvest] = super().get_queryset(request)
        return queryset.annotate(
            authors_listed=Count("authors"),
            authors_pending=Count("authors", filter=Q(authors__state="pending")),
            authors_failed=Count("authors", filter=Q(authors__state="failed")),
            books_found=Sum("authors__books", default=0),
            calls_spent=Coalesce(_calls_spent(), 0),
            late=Q(state="running", lease_until__lt=Now()),
        )

    @admin.display(description="state", ordering="state")
    def standing(self, harvest: Any) -> str:
        if harvest.late:
            return f"not heard of since {harvest.heard_at:%Y-%m-%d %H:%M} UTC"
        return str(harvest.get_state_display())

    @admin.display(description="authors dealt with")
    def progress(self, harvest: Any) -> str:
        return f"{harvest.authors_listed - harvest.authors_pending:,} of {harvest.authors_listed:,}"

    @admin.display(description="failed")
    def failed(self, harvest: Any) -> int:
        return int(harvest.authors_failed)

    @admin.display(description="books")
    def books(self, harvest: Any) -> int:
        return int(harvest.books_found)

    @admin.display(description="calls")
    def calls(self, harvest: Any) -> int:
        return int(harvest.calls_spent)

    @admin.display(description="authors")
    def authors_link(self, harvest: BulkHarvest) -> SafeString:
        address = reverse("admin:harvest_bulkauthor_changelist")
        return format_html('<a href="{}?harvest__id__exact={}">show</a>', address, harvest.pk)


def _calls_spent() -> Subquery:
    """What the reservations of a harvest have spent."""
    source = Concat(Value(BULK_SOURCE), Cast(OuterRef("pk"), CharField()))
    spent = Reservation.objects.exclude(source="").filter(source=source).order_by().values("source")
    return Subquery(spent.annotate(calls=Sum("dispatched")).values("calls"))


@admin.register(BulkAuthor)
class BulkAuthorAdmin(ReadOnlyAdmin):
    list_display = [
        "name",
        "harvest",
        "position",
        "state",
        "reason",
        "books",
        "enriched",
        "calls",
        "next_page",
        "updated_at",
    ]
    list_filter = ["state"]
    list_select_related = ["harvest"]
    search_fields = ["name"]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup == "harvest__id__exact" or super().lookup_allowed(lookup, value, request)
