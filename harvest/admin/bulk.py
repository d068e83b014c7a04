"""The progress of each bulk harvest, and the result for each of its authors."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from alexandria.common import widgets
from alexandria.common.admin import ReadOnlyAdmin
from alexandria.common.widgets import link
from harvest.models import BulkAuthor, BulkHarvest
from harvest.selectors import bulk_figures

TOTALS = ("progress", "failed", "books", "calls", "books_per_call")
STATE_COLOURS = {"running": "primary", "late": "danger", "stopped": "warning", "finished": "success", "abandoned": ""}


@admin.register(BulkHarvest)
class BulkHarvestAdmin(ReadOnlyAdmin):
    list_display = ["label", "standing", "started_at", *TOTALS, "reason"]
    list_filter = ["state"]
    date_hierarchy = "started_at"
    search_fields = ["label"]
    search_help_text = "Search by the source of the list."
    fieldsets = [
        (None, {"fields": ["label", "standing_text", "reason", "max_pages", "started_at", "ended_at"]}),
        ("Figures", {"fields": [*TOTALS, "authors_link"]}),
        ("Process", {"fields": ["host", "pid", "lease_until"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkHarvest]:
        queryset: QuerySet[BulkHarvest] = super().get_queryset(request)
        return queryset.annotate(late=Q(state="running", lease_until__lt=Now()))

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        _set_figures(changelist.result_list)
        return changelist

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> BulkHarvest | None:
        harvest: BulkHarvest | None = super().get_object(request, object_id, from_field)
        if harvest is not None:
            _set_figures([harvest])
        return harvest

    @display(description="state", ordering="state", label=STATE_COLOURS)
    def standing(self, harvest: Any) -> tuple[str, str]:
        return "late" if harvest.late else harvest.state, self.standing_text(harvest)

    @admin.display(description="state")
    def standing_text(self, harvest: Any) -> str:
        if harvest.late:
            return f"no update since {harvest.heard_at:%Y-%m-%d %H:%M} UTC"
        return harvest.get_state_display()

    @admin.display(description="authors done")
    def progress(self, harvest: Any) -> SafeString:
        return widgets.progress(harvest.figures.done, harvest.figures.authors, "authors")

    @admin.display(description="failed")
    def failed(self, harvest: Any) -> int:
        return harvest.figures.failed

    @admin.display(description="books")
    def books(self, harvest: Any) -> int:
        return harvest.figures.books

    @admin.display(description="calls")
    def calls(self, harvest: Any) -> int:
        return harvest.figures.calls

    @admin.display(description="books per call")
    def books_per_call(self, harvest: Any) -> str:
        figures = harvest.figures
        return f"{figures.books / figures.calls:,.1f}" if figures.calls else ""

    @admin.display(description="authors")
    def authors_link(self, harvest: BulkHarvest) -> SafeString:
        address = reverse("admin:harvest_bulkauthor_changelist")
        return link(f"{address}?harvest__id__exact={harvest.pk}", "show")


def _set_figures(harvests: Iterable[Any]) -> None:
    """Adds the figures, with one query for the harvests that are shown."""
    figures = bulk_figures(harvests)
    for harvest in harvests:
        harvest.figures = figures[harvest.pk]


@admin.register(BulkAuthor)
class BulkAuthorAdmin(ReadOnlyAdmin):
    list_display = [
        "name",
        "harvest",
        "position",
        "state_label",
        "reason",
        "books",
        "enriched",
        "calls",
        "next_page",
        "updated_at",
    ]
    list_filter = ["state"]
    list_select_related = ["harvest"]
    paginator = InfinitePaginator
    search_fields = ["name"]

    @display(
        description="state",
        ordering="state",
        label={"pending": "", "done": "success", "unknown": "warning", "cut": "info", "failed": "danger"},
    )
    def state_label(self, author: BulkAuthor) -> tuple[str, str]:
        return author.state, author.get_state_display()

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup == "harvest__id__exact" or super().lookup_allowed(lookup, value, request)
