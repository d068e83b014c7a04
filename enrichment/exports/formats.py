"""The forms of a file of books. CSV and NDJSON have what `GET /api/books/{isbn}` shows; marc.py has the others."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from alexandria.common.exports import csv_line
from enrichment.books.shown import SHOWN_FIELDS, shown_edition
from enrichment.exports.marc import COLLECTION, marc21, marcxml
from enrichment.models import Edition

_WORK_COLUMNS = ("work_id", "work_title")


def _columns() -> list[str]:
    columns: list[str] = []
    for name in SHOWN_FIELDS:
        columns += _WORK_COLUMNS if name == "work" else [name]
    return columns


COLUMNS = _columns()
"""The columns of a CSV file of books."""


def values_of(book: Mapping[str, Any]) -> list[Any]:
    """The values of COLUMNS for `csv_line`, of a book as it is shown."""
    values: list[Any] = []
    for name, value in book.items():
        if name == "work":
            values += [value["id"], value["title"]]
        else:
            values.append([author["name"] for author in value] if name == "authors" else value)
    return values


def ndjson(edition: Edition) -> bytes:
    """The book as a line of newline-delimited JSON: what `GET /api/books/{isbn}` shows."""
    return msgspec.json.encode(shown_edition(edition)) + b"\n"


@dataclass(frozen=True)
class BookFormat:
    """How books become a file: its beginning, something for each book, and its end."""

    label: str
    suffix: str
    content_type: str
    book: Callable[[Edition], bytes]
    """The edition comes with its work, its authors in `author_links`, and its long texts, as from `get_edition`."""
    head: bytes = b""
    tail: bytes = b""

    def file(self, editions: Iterable[Edition]) -> Iterator[bytes]:
        """The file in parts, one for each book. It reads the editions as it goes."""
        if self.head:
            yield self.head
        yield from map(self.book, editions)
        if self.tail:
            yield self.tail


def _csv(edition: Edition) -> bytes:
    return csv_line(values_of(shown_edition(edition))).encode()


FORMATS = {
    "csv": BookFormat("CSV", "csv", "text/csv; charset=utf-8", _csv, head=csv_line(COLUMNS).encode()),
    "ndjson": BookFormat("NDJSON", "ndjson", "application/x-ndjson", ndjson),
    "marc": BookFormat("MARC 21", "mrc", "application/marc", marc21),
    "marcxml": BookFormat("MARCXML", "xml", "application/marcxml+xml", marcxml, *COLLECTION),
}
"""The formats of a file of books, by the name that a person gives."""
