"""Filters for lists with millions of rows. Each uses an index, and none has to read which values exist."""

from datetime import date
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import TextFilter
from unfold.widgets import UnfoldAdminTextInputWidget

from quota.selectors.days import refusals_of


class DayForm(forms.Form):
    def __init__(self, name: str, label: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        widget = UnfoldAdminTextInputWidget(attrs={"type": "date"})
        self.fields[name] = forms.CharField(label=label, required=False, widget=widget)


class DayFilter(TextFilter):
    """The rows of one UTC day."""

    title = "day (UTC)"
    parameter_name = "day"
    form_class = DayForm

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        day = chosen_day(request)
        return self.of_day(queryset, day) if day else queryset.none()

    def of_day(self, queryset: QuerySet[Any], day: date) -> QuerySet[Any]:
        return queryset.filter(ledger=day)


class RefusalDayFilter(DayFilter):
    def of_day(self, queryset: QuerySet[Any], day: date) -> QuerySet[Any]:
        return queryset.filter(pk__in=refusals_of(day).order_by().values("pk"))


def chosen_day(request: HttpRequest) -> date | None:
    """The day in the filter of the list. None without a filter, or when the value is not a date."""
    try:
        return date.fromisoformat(request.GET.get(DayFilter.parameter_name, ""))
    except ValueError:
        return None
