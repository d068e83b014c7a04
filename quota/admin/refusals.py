"""Why was this refused? The id comes from a 429 or from the log."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html_join
from unfold.paginator import InfinitePaginator

from quota.admin.base import ReadOnlyAdmin
from quota.exceptions import QuotaRefused
from quota.models import Refusal


@admin.register(Refusal)
class RefusalAdmin(ReadOnlyAdmin):
    """Why was this refused? The id comes from a 429 or from the log."""

    list_display = ("at", "consumer", "operation", "source", "limit", "asked", "free", "times", "retry_at")
    list_filter = ("limit", "consumer")
    list_select_related = ("consumer",)
    paginator = InfinitePaginator
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
