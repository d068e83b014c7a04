"""Tables as files: read in batches, and written line by line.

A file of any length needs no more memory than a batch, here and in the database.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import Model, Q, QuerySet

Row = Sequence[Any]
Stored = TypeVar("Stored", bound=Model)

BATCH = 2_000
"""Rows that one query reads."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""The characters with which a formula begins in a spreadsheet."""
SEPARATOR = "; "
"""Between the values of a list in one cell."""
FOR_EXCEL = "\ufeff"
"""The beginning of a CSV file for people. Without this byte order mark, Excel does not read it as UTF-8."""


def in_batches(rows: QuerySet[Stored], *, keys: Sequence[str], batch: int = BATCH) -> Iterator[Stored]:
    """The rows in the order of `keys`, `batch` rows for each query. The keys together must be unique.

    A key that begins with "-" is in descending order. Each query starts after the last row of the one before, so rows
    that are written meanwhile do not shift it. A server-side cursor would need one connection for the whole export.
    PgBouncer in transaction mode does not give one.
    """
    ordered = rows.order_by(*keys)
    after = Q()
    while found := list(ordered.filter(after)[:batch]):
        yield from found
        if len(found) < batch:
            return
        after = _beyond(found[-1], keys)


def _beyond(last: Model, keys: Sequence[str]) -> Q:
    """The rows after `last`: the first key is beyond its own, or it is equal and the second key is, and so on."""
    beyond = Q()
    equal: dict[str, Any] = {}
    for key in keys:
        name = key.removeprefix("-")
        value = getattr(last, name)
        beyond |= Q(**equal, **{f"{name}__{'lt' if key.startswith('-') else 'gt'}": value})
        equal[name] = value
    return beyond


def as_csv(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """A line with the names of the columns, then one line for each row. No text in it can act as a formula."""
    yield csv_line(columns)
    for row in rows:
        yield csv_line(row)


def as_csv_for_people(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """The same as a file that Excel reads as UTF-8."""
    yield FOR_EXCEL
    yield from as_csv(columns, rows)


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
    """The values as one line of a CSV file, as `cell` shows them."""
    return _WRITER.writerow([cell(value) for value in row])  # type: ignore[no-any-return]


def cell(value: Any) -> Any:
    """A value for a spreadsheet. A list is one text. A text that can act as a formula begins with an apostrophe."""
    shown = SEPARATOR.join(value) if isinstance(value, list) else _plain(value)
    return f"'{shown}" if isinstance(shown, str) and shown.startswith(FORMULA) else shown


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
