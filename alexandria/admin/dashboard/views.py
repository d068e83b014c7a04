"""The first page of the admin: how many calls are left, who used them, whether they will last, and what runs now.

The figures are a fragment of the page. The browser requests it again every 15 seconds.
"""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path

from alexandria.admin.dashboard.charts import day_chart, month_chart, names_of, parts_of_today, shares_of_today
from alexandria.admin.dashboard.notices import current_notices
from alexandria.admin.dashboard.running import MAX_LISTED, running_now
from alexandria.common.widgets import percentage
from enrichment.selectors.stats import Catalogue, get_catalogue
from quota.database import reachable
from quota.exceptions import QuotaUnavailable
from quota.selectors.dashboard import get_dashboard
from quota.selectors.status import QuotaStatus, begin_of

SEEN_WITH = "quota.view_dailyledger"


def index(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Adds our part to the context of the page: this is unfold's DASHBOARD_CALLBACK."""
    context |= {"title": "Dashboard", "may_see": request.user.has_perm(SEEN_WITH)}
    if not context["may_see"]:
        return context
    try:
        return context | figures(request)
    except QuotaUnavailable as error:
        return context | {"unavailable": str(error)}


def fragment(request: HttpRequest) -> HttpResponse:
    """The current figures, without the page around them."""
    if not request.user.has_perm(SEEN_WITH):
        raise PermissionDenied
    try:
        return render(request, "dashboard/figures.html", figures(request))
    except QuotaUnavailable as error:
        return HttpResponse(str(error), status=503, content_type="text/plain")


def figures(request: HttpRequest) -> dict[str, Any]:
    """The context of the fragment. Raises QuotaUnavailable."""
    quota = get_dashboard(reservations=MAX_LISTED)
    status = quota.status
    names = names_of(quota)
    day, month = day_chart(quota, names), month_chart(quota, names)
    return {
        "quota": quota,
        "status": status,
        "percentage_used": percentage(status.used, max(1, status.safety_limit)),
        "to_reset": status.reset_at - status.now,
        "hit_percent": None if quota.today.hit_rate is None else 100 * quota.today.hit_rate,
        "catalogue": _catalogue(status),
        "parts": parts_of_today(status),
        "today": shares_of_today(status),
        "alerts": current_notices(status, user=request.user),
        "day": day,
        "month": month,
        "drawn": {"day": day.drawn, "month": month.drawn},
        "running": running_now(request.user, quota),
    }


def _catalogue(status: QuotaStatus) -> Catalogue:
    with reachable():
        return get_catalogue(since=begin_of(status.day))


def extra_urls() -> list[URLPattern]:
    return [path("dashboard/", admin.site.admin_view(fragment), name="dashboard")]


admin.site.index_template = "dashboard/index.html"
admin.site.extra_urls = extra_urls  # type: ignore[attr-defined]  # unfold's own
