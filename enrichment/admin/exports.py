"""The buttons that export a list of books, in each of the formats of `manage.py export_books`."""

from collections.abc import Iterator
from itertools import chain

from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from unfold.decorators import action

from alexandria.common.exports import FOR_EXCEL
from alexandria.common.list_exports import FileExportMixin
from enrichment.exports.formats import FORMATS
from enrichment.models import Edition
from enrichment.selectors.exports import exported_books


def file_of(books: QuerySet[Edition], name: str) -> Iterator[bytes]:
    """The parts of a file of the books, in one of FORMATS. A CSV file is made for Excel."""
    before = [FOR_EXCEL.encode()] if name == "csv" else []
    return chain(before, FORMATS[name].file(exported_books(books)))


class BookExportMixin(FileExportMixin):
    """Exports the books of the list, in any format."""

    actions_list = ("export_csv", "export_ndjson", "export_marc", "export_marcxml")
    export_name = "books"

    @action(description="CSV", url_path="export-csv", permissions=["view"], icon="download")
    def export_csv(self, request: HttpRequest) -> HttpResponseBase:
        return self._export(request, "csv")

    @action(description="NDJSON", url_path="export-ndjson", permissions=["view"], icon="download")
    def export_ndjson(self, request: HttpRequest) -> HttpResponseBase:
        return self._export(request, "ndjson")

    @action(description="MARC 21", url_path="export-marc", permissions=["view"], icon="download")
    def export_marc(self, request: HttpRequest) -> HttpResponseBase:
        return self._export(request, "marc")

    @action(description="MARCXML", url_path="export-marcxml", permissions=["view"], icon="download")
    def export_marcxml(self, request: HttpRequest) -> HttpResponseBase:
        return self._export(request, "marcxml")

    def _export(self, request: HttpRequest, name: str) -> HttpResponseBase:
        form = FORMATS[name]
        return self.export_file(request, form.suffix, form.content_type, lambda books: file_of(books, name))
