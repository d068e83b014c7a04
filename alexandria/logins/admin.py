"""The attempts to log in, for those who may see users."""

from django.contrib import admin
from unfold.paginator import InfinitePaginator

from alexandria.common.admin import ReadOnlyAdmin
from alexandria.logins.models import LogIn


@admin.register(LogIn)
class LogInAdmin(ReadOnlyAdmin):
    list_display = ("at", "username", "address", "succeeded")
    list_filter = ("succeeded", "at")
    fields = ("at", "username", "address", "succeeded")
    paginator = InfinitePaginator
    search_fields = ("username__exact", "address__exact")
    search_help_text = "Search by a username or an address, in full."
