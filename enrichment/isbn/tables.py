"""Cuts a text into the rows of a table: any delimiter, quotes, stray quotes; or a list without a table."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence

from enrichment.isbn.programs import is_isbn_head

Row = Sequence[str]

MAX_ROWS = 200_000
"""Lines of a text. A list has 100,000 ISBNs at most."""
MAX_CELLS = 1_000_000
"""Delimiters of one kind in a text."""

_DELIMITERS = "\t;|,"
"""In this order among equals: commas stand in titles and names."""

_QUOTED = re.compile(r'=?"(.*)"', re.DOTALL)
_SAMPLE = 200  # rows that decide
_SHARE = 0.5
"""Share of the rows that must have the same number of cells."""


class FileUnreadable(Exception):
    """The file is not a text, a table or a workbook, or it is too large."""


def rows_of(text: str) -> list[Row]:
    """The rows of the table in the text; a text that is no table has rows of one cell, its lines.

    A first line `sep=;` names the delimiter. Otherwise it is the one that divides the most rows, outside quotes, into
    the same number of cells. Raises FileUnreadable for too many lines or cells, before it reads them.
    """
    text = text.replace("\0", "")
    if len(text) > MAX_ROWS and len(text.splitlines()) > MAX_ROWS:
        raise FileUnreadable(f"The text has more than {MAX_ROWS:,} lines.")
    if any(text.count(delimiter) > MAX_CELLS for delimiter in _DELIMITERS):
        raise FileUnreadable(f"The text has more than {MAX_CELLS:,} cells.")
    first, _, rest = text.partition("\n")
    marker = first.strip('\r\n "')
    if marker.casefold().startswith("sep=") and len(marker) <= 5:
        return _rows(rest, marker[4:] or "\t")  # a tab at the end of a line is easily lost
    delimiter = _delimiter(text)
    return _rows(text, delimiter) if delimiter else [[line] for line in text.splitlines()]


def unquoted(cell: str) -> str:
    """The cell without quotes, also those of `="…"`, which makes a spreadsheet take a number as text."""
    cell = cell.strip()
    quoted = _QUOTED.fullmatch(cell)
    return quoted[1].strip() if quoted else cell


def _delimiter(text: str) -> str | None:
    lines = text.splitlines(keepends=True)[:_SAMPLE]
    best: tuple[bool, float] = (False, 0.0)
    chosen: str | None = None
    for delimiter in _DELIMITERS:
        if not any(delimiter in line for line in lines):
            continue
        rows = [row for row in _rows("".join(lines), delimiter) if any(row)]
        width, same = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
        has_head = any(len(row) > 1 and any(map(is_isbn_head, row)) for row in rows[:1])
        score = (has_head, same / len(rows) if width > 1 else 0.0)
        if score > best and (has_head or score[1] >= _SHARE):
            best, chosen = score, delimiter
    return chosen


def _rows(text: str, delimiter: str) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        return list(reader)
    except csv.Error:  # a stray quote must cost its own line, and not all after it
        return [_one_row(line, delimiter) for line in text.splitlines()]


def _one_row(line: str, delimiter: str) -> Row:
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True), [])
    except csv.Error:
        return line.split(delimiter)
