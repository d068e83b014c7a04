"""The journal: one row for each request to ISBNdb, with its price."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter, RelatedDropdownFilter, TextFilter

from alexandria.common.admin import LongListAdmin
from alexandria.common.exports import Row
from quota.admin.exports import ExportMixin
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
                # Only requests that are not `ok` have another status, or none. These have an index.
                known = int(status) if status.isdecimal() else None
                return queryset.exclude(outcome=Call.Outcome.OK).filter(status=known)


class OperationFilter(TextFilter):
    """No index contains the operation, so the filter searches one day only."""

    title = "operation (of the chosen day, or of today)"
    parameter_name = "operation"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        if not self.value():
            return queryset
        return queryset.filter(ledger=chosen_day(request) or get_status().day, operation=self.value())


@admin.register(Call)
class CallAdmin(ExportMixin, LongListAdmin):
    list_display = (
        "dispatched_at",
        "consumer",
        "operation",
        "request_line",
        "outcome",
        "status",
        "took",
        "books",
        "price",
    )
    list_filter: tuple[Any, ...] = (
        DayFilter,
        ("consumer", RelatedDropdownFilter),
        ("outcome", ChoicesDropdownFilter),
        StatusFilter,
        OperationFilter,
    )
    list_select_related = ("consumer",)
    search_fields = ("id__exact", "reservation__id__exact")
    search_help_text = "Search by the id of a request or of its reservation."
    export_name = "calls"
    export_columns = CALL_COLUMNS

    @admin.display(description="request")
    def request_line(self, call: Call) -> str:
        share = "" if call.share_of_id is None else f" (share of request {call.share_of_id})"
        return f"{call.method} {call.path}{share}".strip()

    @admin.display(description="calls")
    def price(self, call: Call) -> str:
        """What the request cost; for a share, what this consumer paid of it."""
        return f"{call.calls:,}"

    @admin.display(description="took")
    def took(self, call: Call) -> str | None:
        return None if call.latency_ms is None else f"{call.latency_ms:,}\N{NO-BREAK SPACE}ms"

    @admin.display(description="books found")
    def books(self, call: Call) -> str | None:
        """Books found of the ISBNs requested. A list (an author, a month) requests no ISBNs."""
        if call.isbns_found is None:
            return None
        return f"{call.isbns_found:,}" + ("" if call.isbns_asked is None else f" of {call.isbns_asked:,}")

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """The newest first.

        The id and the time give the same order. A list filtered by day, operation or status is ordered by the time:
        ordered by the id, PostgreSQL can choose to walk through all newer requests.
        """
        day, operation, status = (request.GET.get(name) for name in ("day", "operation", "status"))
        filtered = day or operation or (status and status != str(ANSWERED))
        return ("-dispatched_at", "-id") if filtered else ("-id",)

    def export_rows(self, request: HttpRequest, queryset: QuerySet[Call]) -> Iterator[Row]:
        return call_rows(queryset, keys=self.get_ordering(request))
