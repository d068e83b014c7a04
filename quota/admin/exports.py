"""Exports a list as a file. It is streamed: the journal of a year needs no more memory than one page."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from unfold.decorators import action

from quota.admin.filters import chosen_day
from quota.selectors.status import get_status

Row = Sequence[Any]
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""The characters with which a formula begins in a spreadsheet."""


class ExportMixin:
    """For a ModelAdmin: buttons above the list that export it with its filters, as CSV and as JSON."""

    actions_list = ("export_csv", "export_json")
    export_name = ""
    export_columns: Sequence[str] = ()

    def export_rows(self, request: HttpRequest, queryset: Any) -> Iterator[Row]:
        """The rows of the export. The values are in the order of `export_columns`."""
        raise NotImplementedError

    @action(description="CSV", url_path="export-csv", permissions=["view"], icon="download")
    def export_csv(self, request: HttpRequest) -> HttpResponseBase:
        return self._export(request, "csv", "text/csv; charset=utf-8", as_csv)

    @action(description="JSON", url_path="export-json", permissions=["view"], icon="download")
    def export_json(self, request: HttpRequest) -> HttpResponseBase:
        return self._export(request, "json", "application/json", as_json)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Adds the filters of the list to the addresses of the buttons."""
        page = super().changelist_view(request, extra_context)  # type: ignore[misc]
        if request.GET and hasattr(page, "context_data"):
            for button in page.context_data["actions_list"]:
                button["path"] += f"?{request.GET.urlencode()}"
        return page

    def _export(self, request: HttpRequest, suffix: str, content_type: str, render: Any) -> HttpResponseBase:
        try:
            listed = self.get_changelist_instance(request)  # type: ignore[attr-defined]
        except IncorrectLookupParameters:  # without the filters this would export the whole table
            return HttpResponseRedirect(f"../?{ERROR_FLAG}=1")
        rows = self.export_rows(request, listed.queryset)
        name = f"{self.export_name}-{chosen_day(request) or get_status().day}.{suffix}"
        return StreamingHttpResponse(
            render(self.export_columns, rows),
            content_type=content_type,
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


def as_csv(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """A line with the names of the columns, then one line for each row. No text in it can act as a formula."""
    writer = csv.writer(Line())
    yield writer.writerow(columns)
    for row in rows:
        yield writer.writerow([_without_formula(_plain(value)) for value in row])


def as_json(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """One array with an object for each row."""
    before = "[\n"
    for row in rows:
        yield before + json.dumps(dict(zip(columns, map(_plain, row), strict=True)), ensure_ascii=False)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


class Line:
    """A file for csv.writer that returns the line instead of storing it."""

    def write(self, line: str) -> str:
        return line


def _plain(value: Any) -> Any:
    """A value as text or a number. Times are UTC and end in Z."""
    match value:
        case datetime():
            return f"{value:%Y-%m-%dT%H:%M:%S.%fZ}"
        case date() | UUID():
            return str(value)
    return value


def _without_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
