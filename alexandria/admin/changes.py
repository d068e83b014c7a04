"""What people changed on all pages, with their reasons. Changes of keys and deletions are shown only here."""

from django.contrib import admin
from django.contrib.admin.models import DELETION, LogEntry
from django.utils.html import format_html
from unfold.contrib.filters.admin import RelatedDropdownFilter

from alexandria.common.admin import LongListAdmin


@admin.register(LogEntry)
class LogEntryAdmin(LongListAdmin):
    list_display = ("action_time", "user", "content_type", "changed", "change")
    list_filter = (("user", RelatedDropdownFilter), ("content_type", RelatedDropdownFilter))
    list_select_related = ("user", "content_type")
    ordering = ("-id",)
    search_fields = ("object_repr", "change_message")
    search_help_text = "Search by what was changed, or by a word of the reason."
    fields = ("action_time", "user", "content_type", "changed", "change")

    @admin.display(description="what was changed")
    def changed(self, entry: LogEntry) -> str:
        address = None if entry.action_flag == DELETION else entry.get_admin_url()
        return format_html('<a href="{}">{}</a>', address, entry.object_repr) if address else entry.object_repr

    @admin.display(description="change and reason")
    def change(self, entry: LogEntry) -> str:
        return entry.get_change_message() or entry.get_action_flag_display()
