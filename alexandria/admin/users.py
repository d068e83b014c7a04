"""Users and groups, in the style of the other pages."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from alexandria.common.admin import ModelAdmin
from alexandria.common.text import visible

admin.site.unregister(User)
admin.site.unregister(Group)


class VisibleName:
    """A form that strips characters that nobody can see, so that no two users look the same."""

    cleaned_data: dict[str, Any]

    def clean_username(self) -> str:
        self.cleaned_data["username"] = visible(self.cleaned_data["username"])
        if hasattr(super(), "clean_username"):
            super().clean_username()  # type: ignore[misc]  # it refuses names that differ only in case
        return str(self.cleaned_data["username"])


class VisibleUserCreationForm(VisibleName, UserCreationForm):
    pass


class VisibleUserChangeForm(VisibleName, UserChangeForm):
    pass


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    form = VisibleUserChangeForm
    add_form = VisibleUserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    pass
