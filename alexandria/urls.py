from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerSplitView

from alexandria.alerts.api import JobWebhookView
from alexandria.api import problems
from alexandria.api.schema_view import SchemaView
from quota.admin.refusals import why

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="docs")),
    path("api/docs", RedirectView.as_view(pattern_name="docs")),
    path("api/schema", RedirectView.as_view(pattern_name="schema", query_string=True)),
    path("api/schema/", SchemaView.as_view(metadata_class=None), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema", metadata_class=None), name="docs"),
    path("api/jobs/webhook", JobWebhookView.as_view(), name="job-webhook"),
    path("api/", include("quota.urls")),
    path("api/", include("enrichment.urls")),
    re_path(r"^api/", problems.NoSuchPath.as_view()),
    path("isbndb/", include("enrichment.api.isbndb.urls")),
    path("admin/why/<str:refusal>", admin.site.admin_view(why), name="why"),
    path("admin/", admin.site.urls),
]
