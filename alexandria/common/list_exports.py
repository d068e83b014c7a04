"""Exports a list of the admin as a file. It is streamed: a table of any length needs no more memory than a batch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from unfold.decorators import action

from alexandria.common.exports import Row, as_csv_for_people, as_json, as_ndjson
from alexandria.common.turns import take_turn


class FileExportMixin:
    """For a ModelAdmin: buttons above the list that export it with its filters.

    `actions_list` names the buttons. Each is an action with the permission to view that returns `export_file(…)`.
    """

    export_name = ""

    def export_day(self, request: HttpRequest) -> date:
        """The day in the name of the file."""
        return datetime.now(UTC).date()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Adds the filters of the list to the addresses of the buttons."""
        page = super().changelist_view(request, extra_context)  # type: ignore[misc]
        if request.GET and hasattr(page, "context_data"):
            for button in page.context_data["actions_list"]:
                button["path"] += f"?{request.GET.urlencode()}"
        return page

    def export_file(
        self, request: HttpRequest, suffix: str, content_type: str, write: Callable[[Any], Iterable[str | bytes]]
    ) -> HttpResponseBase:
        """The file that `write` makes of the rows that the list shows, on all of its pages. Raises TooManyAtOnce."""
        take_turn()
        try:
            listed = self.get_changelist_instance(request)  # type: ignore[attr-defined]
        except IncorrectLookupParameters:  # without the filters this would export the whole table
            return HttpResponseRedirect(f"../?{ERROR_FLAG}=1")
        name = f"{self.export_name}-{self.export_day(request)}.{suffix}"
        return StreamingHttpResponse(
            write(listed.queryset),
            content_type=content_type,
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


class RowExportMixin(FileExportMixin):
    """Exports rows as CSV and as JSON, or as the formats that `actions_list` names."""

    actions_list: Sequence[str] = ("export_csv", "export_json")
    export_columns: Sequence[str] = ()

    def export_rows(self, request: HttpRequest, queryset: Any) -> Iterator[Row]:
        """The rows of the export. The values are in the order of `export_columns`."""
        raise NotImplementedError

    @action(description="CSV", url_path="export-csv", permissions=["view"], icon="download")
    def export_csv(self, request: HttpRequest) -> HttpResponseBase:
        return self._export(request, "csv", "text/csv; charset=utf-8", as_csv_for_people)

    @action(description="JSON", url_path="export-json", permissions=["view"], icon="download")
    def export_json(self, request: HttpRequest) -> HttpResponseBase:
        return self._export(request, "json", "application/json", as_json)

    @action(description="NDJSON", url_path="export-ndjson", permissions=["view"], icon="download")
    def export_ndjson(self, request: HttpRequest) -> HttpResponseBase:
        return self._export(request, "ndjson", "application/x-ndjson", as_ndjson)

    def _export(
        self, request: HttpRequest, suffix: str, content_type: str, render: Callable[[Any, Any], Iterator[str]]
    ) -> HttpResponseBase:
        def write(queryset: Any) -> Iterator[str]:
            return render(self.export_columns, self.export_rows(request, queryset))

        return self.export_file(request, suffix, content_type, write)
