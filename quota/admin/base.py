"""What the admin pages of all apps are made of."""

from typing import Any

from django.db.models import Field
from django.forms import Field as FormField
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline


class ReadOnlyAdmin(ModelAdmin):
    """History: to be looked at, not to be changed."""

    show_full_result_count = False

    class Media:
        css = {"all": ["quota/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class LabelledInline(TabularInline):
    """Rows of another table whose fields are named each, and not by the head of their column alone."""

    def formfield_for_dbfield(
        self, db_field: "Field[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> FormField | None:
        field: FormField | None = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field:
            field.widget.attrs["aria-label"] = field.label
        return field
