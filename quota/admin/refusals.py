"""Refusals. The id of one is in the 429 response and in the log; its page explains the refusal."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter

from alexandria.common.admin import LongListAdmin, WithFigures
from alexandria.common.text import as_people_read, counted
from alexandria.common.widgets import parts_of_day, share
from quota.admin.filters import RefusalDayFilter
from quota.limits import CONSUMER_FIELDS
from quota.models import Refusal

TITLE = "Why was this refused?"


@admin.register(Refusal)
class RefusalAdmin(WithFigures, LongListAdmin):
    """The newest first. The page of a refusal says why it happened and what to do."""

    list_display = ("at", "consumer", "operation", "source", "limit", "asked", "free", "times", "retry_at")
    list_filter = (RefusalDayFilter, ("consumer", RelatedDropdownFilter), ("limit", ChoicesDropdownFilter))
    list_select_related = ("consumer",)
    search_fields = ("id__exact",)
    search_help_text = "Search by the id in the 429 response or in the log."

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if wanted := request.GET.get("q", "").strip():
            return redirect("why", wanted.replace("/", ""))
        return super().changelist_view(request, extra_context)

    def figures(self, row: Refusal) -> dict[str, Any]:
        return _explained(row)


def why(request: HttpRequest, refusal: str) -> HttpResponse:
    """Redirects to the page of the refusal with that id. Explains where to find ids when there is none."""
    if not request.user.has_perm("quota.view_refusal"):
        raise PermissionDenied
    try:
        known = Refusal.objects.filter(pk=UUID(refusal)).exists()
    except ValueError:
        known = False
    if known:
        return redirect("admin:quota_refusal_change", UUID(refusal))
    context = {**admin.site.each_context(request), "title": TITLE, "wanted": refusal}
    context["kept_days"] = settings.JOURNAL_KEEP_DAYS
    return TemplateResponse(request, "quota/admin/why_unknown.html", context, status=404)


def _explained(refusal: Refusal) -> dict[str, Any]:
    """The context of the page: the refusal in words, and its figures."""
    figures = refusal.figures
    held = sorted(figures["held_by"].items(), key=lambda holder: (-holder[1], holder[0]))
    all_held = sum(calls for _, calls in held)
    day = ("daily_limit", "safety_limit", "used", "reserved")
    return {
        "title": TITLE,
        "refusal": refusal,
        "figures": figures,
        "sentence": _sentence(refusal),
        "again": _again(refusal),
        "todo": refusal.reason.remedy,
        "parts": parts_of_day(**{name: figures[name] for name in day}),
        "of_the_consumer": [
            *((name.replace("_", " "), figures.get(name)) for name in CONSUMER_FIELDS),
            ("used", figures["consumer_used"]),
            ("reserved", figures["consumer_reserved"]),
        ],
        "held_by": [(slug, calls, share(calls, all_held)) for slug, calls in held],
    }


def _sentence(refusal: Refusal) -> str:
    verb = "was" if refusal.free == 1 else "were"
    return (
        f"{refusal.consumer} requested {counted(refusal.asked, 'call')} for {refusal.operation} at "
        f"{as_people_read(refusal.at, seconds=True)}. {counted(refusal.free, 'call')} {verb} free. "
        f"{refusal.reason.explanation}"
    )


def _again(refusal: Refusal) -> str:
    if refusal.retry_at is None:
        return "A later request for as many calls will be refused, too."
    return f"The answer said to retry at {as_people_read(refusal.retry_at, seconds=True)}."
