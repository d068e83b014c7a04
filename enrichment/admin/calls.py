"""The journal with a filter by ISBN, which the quota itself does not know."""

from datetime import timedelta

from django.contrib import admin
from django.db.models import DurationField, ExpressionWrapper, F, QuerySet, Value
from django.http import HttpRequest
from unfold.contrib.filters.admin import TextFilter

from enrichment.isbn.parsing import InvalidIsbn, parse
from enrichment.selectors.books import last_answered
from quota.admin.calls import CallAdmin as QuotaCallAdmin
from quota.models import Call

MAX_DURATION = timedelta(seconds=90)
"""Longer than any call takes, from its dispatch until its answer is stored."""


class IsbnFilter(TextFilter):
    """The requests that can have brought ISBNdb's latest answer for an ISBN.

    The journal stores no ISBNs, because a request can ask for 1,000 of them. The filter finds the requests that were
    answered shortly before the answer was stored. Nearly always the first one in the list is the right one.
    """

    title = "ISBN (in any form): the requests that can have brought its latest answer"
    parameter_name = "isbn"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        if not self.value():
            return queryset
        try:
            answered_at = last_answered(parse(self.value()))
        except InvalidIsbn:
            answered_at = None
        if answered_at is None:
            return queryset.none()
        since = answered_at - MAX_DURATION
        took = ExpressionWrapper(F("latency_ms") * Value(timedelta(milliseconds=1)), output_field=DurationField())
        answered = [Call.Outcome.OK, Call.Outcome.NOT_FOUND]
        of_these_days = queryset.filter(ledger__in={since.date(), answered_at.date()}, outcome__in=answered)
        return of_these_days.filter(dispatched_at__gt=since, send_at__lte=answered_at - took)


admin.site.unregister(Call)


@admin.register(Call)
class CallAdmin(QuotaCallAdmin):
    list_filter = (*QuotaCallAdmin.list_filter, IsbnFilter)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Ordered by time, as with a filter by day, so that PostgreSQL does not walk through all newer calls."""
        if request.GET.get(IsbnFilter.parameter_name):
            return ("-dispatched_at", "-id")
        return super().get_ordering(request)
