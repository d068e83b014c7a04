"""Base classes and pages that the admin of every app uses."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.contrib.admin.options import get_content_type_for_model
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.cache import add_never_cache_headers
from unfold import admin as unfold
from unfold.paginator import InfinitePaginator
from unfold.views import ChangeList

from alexandria.common.searching import searching

FIRST_PAGES = 100
"""PostgreSQL reads and drops all rows before a page: beyond these, that takes long."""


class BoundedList(ChangeList):
    """A list in which a search, and a page far down, have a time limit. Raises SearchTooSlow and TooManyAtOnce."""

    def get_results(self, request: HttpRequest) -> None:
        if not self.query and self.page_num <= FIRST_PAGES:
            super().get_results(request)
            return
        with searching():
            super().get_results(request)
            len(self.result_list)  # runs the query


class ModelAdmin(unfold.ModelAdmin):
    """The base of all pages. An action on an id that is no id is not found; Django would fail."""

    def response_action(self, request: HttpRequest, queryset: "QuerySet[Any]") -> HttpResponseBase | None:
        for chosen in request.POST.getlist(ACTION_CHECKBOX_NAME):
            try:
                self.opts.pk.to_python(chosen)
            except ValidationError:
                raise Http404(f"{chosen[:100]!r} is no id.") from None
        return super().response_action(request, queryset)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """An empty `_to_field` names no field; Django would look for one."""
        return super().get_object(request, object_id, from_field or None)


class ReadOnlyAdmin(ModelAdmin):
    """For history: people can look at it but not change it."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # facets count the whole table once for each choice of each filter

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        return BoundedList

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        """Offers the history of the page only if there is one: most of these rows are never acted upon."""
        if obj is not None:
            acts = LogEntry.objects.filter(content_type=get_content_type_for_model(obj), object_id=str(obj.pk))
            context["show_history"] = acts.exists()
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def get_paginator(self, request: HttpRequest, queryset: Any, *args: Any, **kwargs: Any) -> "Paginator[Any]":
        """The model's own rows use the paginator of the class. The admin history of one row is short: it is counted."""
        paginator = super().get_paginator(request, queryset, *args, **kwargs)
        return paginator if queryset.model is self.model else Paginator(queryset, *args, **kwargs)


class LongListAdmin(ReadOnlyAdmin):
    """For history with millions of rows: nothing counts them, or sorts them by a column without an index."""

    list_filter_submit = True
    list_disable_select_all = True
    paginator = InfinitePaginator
    sortable_by: Sequence[str] = ()


class WithFigures:
    """For a ModelAdmin whose page of a row shows more than its fields. Its template gets them from `figures`."""

    def figures(self, row: Any) -> dict[str, Any]:
        raise NotImplementedError

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The figures are read before Django begins its transaction. Without a row, Django's own page says so."""
        row = self.get_object(request, object_id)  # type: ignore[attr-defined]
        may_see = row is not None and self.has_view_permission(request, row)  # type: ignore[attr-defined]
        figures = self.figures(row) if may_see else {}
        context = {**(extra_context or {}), **figures}
        page: HttpResponse = super().change_view(request, object_id, form_url, context)  # type: ignore[misc]
        return page


class WithoutTransaction(admin.ModelAdmin):  # type: ignore[type-arg]
    """Saves a page without Django's transaction around it.

    For a save that opens its own transaction, or that waits for the network. List it after unfold's ModelAdmin,
    which adds its buttons to the page.
    """

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._changeform_view(request, *args, **kwargs)  # type: ignore[attr-defined]


def secret_page(
    request: HttpRequest, *, title: str, heading: str, label: str, secret: str, lines: list[str], back: str
) -> TemplateResponse:
    """The only page that shows a new secret. It answers the POST that made the secret, and no cache keeps it.

    `label` names the field, `lines` is the text above it, `back` is the address of the last button.
    """
    context = {**admin.site.each_context(request), "title": title, "heading": heading, "label": label}
    page = TemplateResponse(request, "common/secret.html", context | {"secret": secret, "lines": lines, "back": back})
    add_never_cache_headers(page)
    return page
