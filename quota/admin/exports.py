"""Exports a list as a file. It is streamed: the journal of a year needs no more memory than one page."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from unfold.decorators import action

from alexandria.common.exports import Row, as_csv, as_json
from quota.admin.filters import chosen_day
from quota.selectors.status import get_status


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
