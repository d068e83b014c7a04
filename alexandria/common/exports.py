"""Rows as the text of a file, line by line, so that a file of any length needs no more memory than a few rows."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

Row = Sequence[Any]
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""The characters with which a formula begins in a spreadsheet."""


def as_csv(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """A line with the names of the columns, then one line for each row. No text in it can act as a formula."""
    yield csv_line(columns)
    for row in rows:
        yield csv_line(row)


def as_json(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """One array with an object for each row."""
    before = "[\n"
    for line in as_ndjson(columns, rows):
        yield before + line.removesuffix("\n")
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def as_ndjson(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """A line with an object for each row (https://github.com/ndjson/ndjson-spec)."""
    for row in rows:
        yield json.dumps(dict(zip(columns, map(_plain, row), strict=True)), ensure_ascii=False) + "\n"


def csv_line(row: Row) -> str:
    """The values as one line of a CSV file. A text that a spreadsheet would take for a formula gets an apostrophe."""
    return _WRITER.writerow([without_formula(_plain(value)) for value in row])  # type: ignore[no-any-return]


def without_formula(value: Any) -> Any:
    """The value of a cell. A text that a spreadsheet would take for a formula begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


class _Line:
    """A file for csv.writer that returns the line instead of storing it."""

    def write(self, line: str) -> str:
        return line


_WRITER: Any = csv.writer(_Line())


def _plain(value: Any) -> Any:
    """A value as text or a number. Times are UTC and end in Z."""
    match value:
        case datetime():
            return f"{value:%Y-%m-%dT%H:%M:%S.%fZ}"
        case date() | UUID():
            return str(value)
    return value
