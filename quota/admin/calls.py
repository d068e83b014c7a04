"""The journal."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter, RelatedDropdownFilter, TextFilter
from unfold.paginator import InfinitePaginator

from alexandria.common.admin import ReadOnlyAdmin
from quota.admin.exports import ExportMixin, Row
from quota.admin.filters import DayFilter, chosen_day
from quota.models import Call
from quota.selectors.exports import CALL_COLUMNS, call_rows
from quota.selectors.status import get_status

ANSWERED = 200
STATUSES = (ANSWERED, 400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504)
NO_STATUS = "none"


class StatusFilter(DropdownFilter):
    title = "HTTP status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [*((str(status), str(status)) for status in STATUSES), (NO_STATUS, "no answer")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        match self.value():
            case None | "":
                return queryset
            case status if status == str(ANSWERED):
                return queryset.filter(status=ANSWERED)
            case status:
                # Only what is not `ok` has another status, or none: these have an index.
                known = int(status) if status.isdecimal() else None
                return queryset.exclude(outcome=Call.Outcome.OK).filter(status=known)


class OperationFilter(TextFilter):
    """No index has the operation: it is looked for within one day."""

    title = "operation, of the day or of today"
    parameter_name = "operation"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        if not self.value():
            return queryset
        return queryset.filter(ledger=chosen_day(request) or get_status().day, operation=self.value())


@admin.register(Call)
class CallAdmin(ExportMixin, ReadOnlyAdmin):
    list_display = (
        *("dispatched_at", "consumer", "operation", "request_line", "outcome", "status", "took", "books", "calls"),
    )
    list_filter: tuple[Any, ...] = (
        DayFilter,
        ("consumer", RelatedDropdownFilter),
        ("outcome", ChoicesDropdownFilter),
        StatusFilter,
        OperationFilter,
    )
    list_filter_submit = True
    list_select_related = ("consumer",)
    list_disable_select_all = True
    paginator = InfinitePaginator
    sortable_by = ()
    search_fields = ("id__exact", "reservation__id__exact")
    search_help_text = "The id of a call or of its reservation."
    export_name = "calls"
    export_columns = CALL_COLUMNS

    @admin.display(description="request")
    def request_line(self, call: Call) -> str:
        return f"{call.method} {call.path}".strip()

    @admin.display(description="took")
    def took(self, call: Call) -> str | None:
        return None if call.latency_ms is None else f"{call.latency_ms:,}\N{NO-BREAK SPACE}ms"

    @admin.display(description="books found")
    def books(self, call: Call) -> str | None:
        """Of the ISBNs that were asked for, or, for a list of an author or a month, in all."""
        if call.isbns_found is None:
            return None
        return f"{call.isbns_found:,}" + ("" if call.isbns_asked is None else f" of {call.isbns_asked:,}")

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """The newest first.

        Where the list is narrowed to a day or to a status, the time takes the place of the id, of which it is the
        order: by the id PostgreSQL may choose to walk through all the newer calls in search of them.
        """
        day, operation, status = (request.GET.get(name) for name in ("day", "operation", "status"))
        narrowed = day or operation or (status and status != str(ANSWERED))
        return ("-dispatched_at", "-id") if narrowed else ("-id",)

    def export_rows(self, request: HttpRequest, queryset: QuerySet[Call]) -> Iterator[Row]:
        return call_rows(queryset, keys=[key.removeprefix("-") for key in self.get_ordering(request)])
