"""The index of the admin: how much is left, who spent it, whether it will last, and what is under way.

The page holds its figures as a fragment, which the browser asks for again every 15 seconds.
"""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path

from alexandria.admin.dashboard.charts import day_chart, gauge, month_chart, series_of
from alexandria.admin.dashboard.notices import current_alerts
from alexandria.admin.dashboard.under_way import MOST, under_way
from quota.exceptions import QuotaUnavailable
from quota.selectors.dashboard import get_dashboard

SEEN_WITH = "quota.view_dailyledger"


def index(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the index shows beyond unfold's own context (its DASHBOARD_CALLBACK)."""
    context |= {"title": "Dashboard", "may_see": request.user.has_perm(SEEN_WITH)}
    if not context["may_see"]:
        return context
    try:
        return context | figures(request)
    except QuotaUnavailable as error:
        return context | {"unavailable": str(error)}


def fragment(request: HttpRequest) -> HttpResponse:
    """The figures alone, as they are now."""
    if not request.user.has_perm(SEEN_WITH):
        raise PermissionDenied
    try:
        return render(request, "admin/dashboard/figures.html", figures(request))
    except QuotaUnavailable as error:
        return HttpResponse(str(error), status=503, content_type="text/plain")


def figures(request: HttpRequest) -> dict[str, Any]:
    """Everything that the fragment's template shows. Raises QuotaUnavailable."""
    quota = get_dashboard(reservations=MOST)
    series = series_of(quota)
    day, month = day_chart(quota, series), month_chart(quota, series)
    return {
        "quota": quota,
        "status": quota.status,
        "to_reset": quota.status.reset_at - quota.status.now,
        "hit_percent": None if quota.today.hit_rate is None else 100 * quota.today.hit_rate,
        "parts": gauge(quota.status),
        "alerts": current_alerts(quota.status, user=request.user),
        "day": day,
        "month": month,
        "charts": {"day": day.drawn, "month": month.drawn},
        "under_way": under_way(request.user, quota),
    }


def extra_urls() -> list[URLPattern]:
    return [path("dashboard/", admin.site.admin_view(fragment), name="dashboard")]


admin.site.index_template = "admin/dashboard/index.html"
admin.site.extra_urls = extra_urls  # type: ignore[attr-defined]  # unfold's own
