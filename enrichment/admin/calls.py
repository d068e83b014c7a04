"""The journal once more, with what the quota knows nothing of: ISBNs."""

from datetime import timedelta

from django.contrib import admin
from django.db.models import DurationField, ExpressionWrapper, F, QuerySet, Value
from django.http import HttpRequest
from unfold.contrib.filters.admin import TextFilter

from enrichment.isbn.parsing import InvalidIsbn, parse
from enrichment.selectors.books import last_told
from quota.admin.calls import CallAdmin as CallAdminOfTheQuota
from quota.models import Call

LONGEST = timedelta(seconds=90)
"""From a call's dispatch to the end of storing its answer: the longest time-out, and then some."""


class IsbnFilter(TextFilter):
    """The calls that may have brought ISBNdb's last word on an ISBN.

    The journal has no ISBNs, of which a call may ask for 1,000: it is those that were answered shortly before the word
    was stored. Nearly always the uppermost is the one.
    """

    title = "ISBN, in any form: calls that may have brought ISBNdb's last word on it"
    parameter_name = "isbn"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        if not self.value():
            return queryset
        try:
            told_at = last_told(parse(self.value()))
        except InvalidIsbn:
            told_at = None
        if told_at is None:
            return queryset.none()
        since = told_at - LONGEST
        took = ExpressionWrapper(F("latency_ms") * Value(timedelta(milliseconds=1)), output_field=DurationField())
        answered = [Call.Outcome.OK, Call.Outcome.NOT_FOUND]
        of_the_days = queryset.filter(ledger__in={since.date(), told_at.date()}, outcome__in=answered)
        return of_the_days.filter(dispatched_at__gt=since, send_at__lte=told_at - took)


admin.site.unregister(Call)


@admin.register(Call)
class CallAdmin(CallAdminOfTheQuota):
    list_filter = (*CallAdminOfTheQuota.list_filter, IsbnFilter)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """As where the list is narrowed to a day: no walk through all the newer calls."""
        if request.GET.get(IsbnFilter.parameter_name):
            return ("-dispatched_at", "-id")
        return super().get_ordering(request)
