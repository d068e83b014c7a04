"""What the admin pages of all apps are made of."""

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin


class ReadOnlyAdmin(ModelAdmin):
    """History: to be looked at, not to be changed."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # they count the table once for each choice of each filter

    class Media:
        css = {"all": ["quota/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_paginator(self, request: HttpRequest, queryset: Any, *args: Any, **kwargs: Any) -> "Paginator[Any]":
        """An admin history is short and can be counted, whatever pages the list itself has."""
        of_rows = super().get_paginator(request, queryset, *args, **kwargs)
        return of_rows if queryset.model is self.model else Paginator(queryset, *args, **kwargs)


class WithoutTransaction(admin.ModelAdmin):  # type: ignore[type-arg]
    """Takes Django's transaction from around a page that is saved: for what is one of its own, or takes its time.

    A base class behind unfold's, which adds its buttons to the page.
    """

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._changeform_view(request, *args, **kwargs)  # type: ignore[attr-defined]
