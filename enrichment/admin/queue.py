"""The queue as an operator sees it: what waits, what failed, and two ways to deal with it."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from enrichment.admin.books import IsbnSearch
from enrichment.models import Wish
from enrichment.selectors.queue import FAILED, UNDER_WAY, WAITING
from enrichment.services.queue import drop, retry


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "waiting"), ("under_way", "under way"), ("failed", "failed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Wish]) -> QuerySet[Wish]:
        states = {"waiting": WAITING, "under_way": UNDER_WAY, "failed": FAILED}
        state = states.get(self.value() or "")
        return queryset if state is None else queryset.filter(state)


@admin.register(Wish)
class WishAdmin(IsbnSearch):
    list_display = ["isbn13", "priority", "consumer", "source", "asked_at", "due_at", "held_until", "attempts", "error"]
    list_filter = [StateFilter, "priority", "consumer"]
    list_select_related = ["consumer"]
    search_fields = ["isbn13"]
    search_help_text = "An ISBN in any form."
    date_hierarchy = "asked_at"
    actions = ["retry_failed", "drop_wishes"]

    @admin.display(description="last error")
    def error(self, wish: Wish) -> str:
        return wish.last_error[:80]

    @admin.action(description="Try the failed ones again", permissions=["retry"])
    def retry_failed(self, request: HttpRequest, wishes: QuerySet[Wish]) -> None:
        messages.success(request, f"Tried again with the next batch: {_counted(retry(_isbns(wishes)))}.")

    @admin.action(description="Drop", permissions=["drop"])
    def drop_wishes(self, request: HttpRequest, wishes: QuerySet[Wish]) -> None:
        messages.success(request, f"Dropped: {_counted(drop(_isbns(wishes)))}.")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("enrichment.change_wish"))

    def has_drop_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("enrichment.delete_wish"))


def _isbns(wishes: QuerySet[Wish]) -> list[str]:
    return list(wishes.values_list("isbn13", flat=True))


def _counted(count: int) -> str:
    return "1 wish" if count == 1 else f"{count} wishes"
