"""What the admin pages of all apps are made of."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
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
