"""Why was this refused? The id comes from a 429 or from the log."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.paginator import InfinitePaginator

from alexandria.common.admin import ReadOnlyAdmin
from alexandria.common.widgets import parts_of_day, share
from quota.admin.filters import RefusalDayFilter
from quota.exceptions import QuotaRefused
from quota.models import Refusal

TITLE = "Why was this refused?"
TO_DO = {
    Refusal.Limit.SAFETY_LIMIT: (
        "Wait for the operations that have calls set aside, or for the reset at 00:00 UTC. What is set aside and stuck "
        "can be released on the page of the reservations."
    ),
    Refusal.Limit.FLOOR: (
        "Nothing: the floor keeps calls free for those who cannot wait. If they need none, lower the consumer's floor."
    ),
    Refusal.Limit.DAILY_BUDGET: ("Raise the consumer's daily budget: it holds at once."),
    Refusal.Limit.CAP_PER_OPERATION: "Ask for fewer at a time, or raise the consumer's cap per operation.",
    Refusal.Limit.DAY_CLOSED: (
        "Wait for the reset at 00:00 UTC. If this comes often, our daily limit is more than ISBNdb sells: look at the "
        "reconciliations."
    ),
    Refusal.Limit.MIDNIGHT: "Nothing: a few seconds later it goes on by itself.",
}


@admin.register(Refusal)
class RefusalAdmin(ReadOnlyAdmin):
    """What was refused, the newest first; a refusal's page says why, and what to do."""

    list_display = ("at", "consumer", "operation", "source", "limit", "asked", "free", "times", "retry_at")
    list_filter = (RefusalDayFilter, ("consumer", RelatedDropdownFilter), ("limit", ChoicesDropdownFilter))
    list_filter_submit = True
    list_select_related = ("consumer",)
    list_disable_select_all = True
    paginator = InfinitePaginator
    sortable_by = ()
    search_fields = ("id__exact",)
    search_help_text = "The id, as the 429 and the log have it, leads to its page."

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if wanted := request.GET.get("q", "").strip():
            return redirect("why", wanted.replace("/", ""))
        return super().changelist_view(request, extra_context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        refusal = self.get_object(request, object_id)
        if refusal is None or not self.has_view_permission(request, refusal):
            return super().change_view(request, object_id, form_url, extra_context)  # says so in Django's way
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **_told(refusal)})


def why(request: HttpRequest, refusal: str) -> HttpResponse:
    """The page of the refusal with that id, wherever it comes from; a kind word when there is none."""
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


def _told(refusal: Refusal) -> dict[str, Any]:
    """The refusal in words, and its figures for the page."""
    figures = refusal.figures
    names = ("floor", "daily_budget", "cap_per_operation", "consumer_used", "consumer_reserved")
    words = ("floor", "daily budget", "cap per operation", "used", "set aside")
    held = sorted(figures["held_by"].items(), key=lambda holder: (-holder[1], holder[0]))
    all_held = sum(calls for _, calls in held)
    day = ("daily_limit", "safety_limit", "used", "reserved")
    return {
        "title": TITLE,
        "refusal": refusal,
        "figures": figures,
        "sentence": _sentence(refusal),
        "again": _again(refusal),
        "todo": TO_DO[Refusal.Limit(refusal.limit)],
        "parts": parts_of_day(**{name: figures[name] for name in day}),
        "of_the_consumer": [(word, figures[name]) for word, name in zip(words, names, strict=True)],
        "held_by": [(slug, calls, share(calls, all_held)) for slug, calls in held],
    }


def _sentence(refusal: Refusal) -> str:
    calls = "call" if refusal.asked == 1 else "calls"
    return (
        f"At {refusal.at:%H:%M:%S} UTC on {refusal.at:%Y-%m-%d} {refusal.consumer} asked for {refusal.asked:,} {calls} "
        f"for {refusal.operation} and could have had {refusal.free:,}: {QuotaRefused.EXPLANATIONS[refusal.limit]}."
    )


def _again(refusal: Refusal) -> str:
    if refusal.retry_at is None:
        return "Asking for as many again would be refused again, however late."
    return f"It was told to come back at {refusal.retry_at:%Y-%m-%d %H:%M:%S} UTC."
