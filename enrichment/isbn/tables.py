"""Cuts a text into the rows of a table: any delimiter, quotes, stray quotes; or a list without a table."""

import csv
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from enrichment.isbn.programs import is_isbn_head

Row = Sequence[str]

MAX_ROWS = 200_000
"""Lines of a text. A list has 100,000 ISBNs at most."""
MAX_CELLS = 1_000_000
"""Delimiters in a text."""
MAX_WIDTH = 200_000
"""Delimiters in a line, which can be a whole list."""

_DELIMITERS = "\t;|,"
"""In this order among equals: commas stand in titles and names."""

_QUOTED = re.compile(r'=?"(.*)"', re.DOTALL)
_SAMPLE = 200  # rows that decide
_MAX_SAMPLE = 256 * 1024  # characters of them
_MAX_MARKER = 64
_LINE = re.compile(r"([^\r\n]*+(?:\r\n?|\n|\Z))")
"""As the csv module divides a text into lines, with their ends."""
_ANY_LINE = re.compile(r"([^\r\n\v\f\x1c-\x1e\x85\u2028\u2029]*+)(?:\r\n?|[\n\v\f\x1c-\x1e\x85\u2028\u2029]|\Z)")
"""As people see lines, without their ends."""
_SHARE = 0.5
"""Share of the rows that must have the same number of cells."""


class FileUnreadable(Exception):
    """The file is not a text, a table or a workbook, or it is too large."""


def rows_of(text: str) -> Iterator[Row]:
    """The rows of the table in the text, one at a time; a text that is no table has rows of one cell, its lines.

    A first line `sep=;` names the delimiter. Otherwise it is the one that divides the most rows, outside quotes, into
    the same number of cells. Raises FileUnreadable at the first line or cell too many; of a table, before it reads any
    row.
    """
    text = text.replace("\0", "")
    marker = text[:_MAX_MARKER].partition("\n")[0].strip('\r\n "')
    if marker.casefold().startswith("sep=") and len(marker) <= 5:
        below = text.find("\n") + 1 or len(text)
        return _rows(lambda: _lines(text, below), marker[4:] or "\t")  # a tab at the end of a line is easily lost
    delimiter = _delimiter(text)
    if delimiter:
        return _rows(lambda: _lines(text), delimiter)
    return ([line] for line in _counted(_lines(text, pattern=_ANY_LINE), None))


def unquoted(cell: str) -> str:
    """The cell without quotes, also those of `="…"`, which makes a spreadsheet take a number as text."""
    cell = cell.strip()
    quoted = _QUOTED.fullmatch(cell)
    return quoted[1].strip() if quoted else cell


def _lines(text: str, start: int = 0, pattern: re.Pattern[str] = _LINE) -> Iterator[str]:
    return (line[1] for line in pattern.finditer(text, start) if line[0])


def _counted(lines: Iterable[str], delimiter: str | None) -> Iterator[str]:
    cells = 0
    for at, line in enumerate(lines, 1):
        if at > MAX_ROWS:
            raise FileUnreadable(f"The text has more than {MAX_ROWS:,} lines.")
        width = line.count(delimiter) if delimiter else 0
        if width > MAX_WIDTH:
            raise FileUnreadable(f"A line of the text has more than {MAX_WIDTH:,} cells.")
        cells += width
        if cells > MAX_CELLS:
            raise FileUnreadable(f"The text has more than {MAX_CELLS:,} cells.")
        yield line


def _delimiter(text: str) -> str | None:
    start = text[:_MAX_SAMPLE]
    lines = list(islice(_lines(start), _SAMPLE))
    if 1 < len(lines) < _SAMPLE and len(start) < len(text):
        lines.pop()  # it is cut off
    best: tuple[bool, float] = (False, 0.0)
    chosen: str | None = None
    for delimiter in _DELIMITERS:
        if not any(delimiter in line for line in lines):
            continue
        rows = [row for row in _rows(lambda: iter(lines), delimiter) if any(row)]
        width, same = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
        has_head = any(len(row) > 1 and any(map(is_isbn_head, row)) for row in rows[:1])
        score = (has_head, same / len(rows) if width > 1 else 0.0)
        if score > best and (has_head or score[1] >= _SHARE):
            best, chosen = score, delimiter
    return chosen


def _rows(lines: Callable[[], Iterator[str]], delimiter: str) -> Iterator[Row]:
    """The rows, after lines and cells are counted, and after it is known whether there is a stray quote."""
    _exhaust(_counted(lines(), delimiter))
    try:
        _exhaust(_reader(lines(), delimiter))
    except csv.Error:  # a stray quote must cost its own line, and not all after it
        return (_one_row(line, delimiter) for line in lines())
    return _reader(lines(), delimiter)


def _exhaust(rows: Iterable[object]) -> None:
    deque(rows, maxlen=0)


def _reader(lines: Iterable[str], delimiter: str) -> Iterator[Row]:
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)


def _one_row(line: str, delimiter: str) -> Row:
    line = line.rstrip("\r\n")
    try:
        return next(_reader([line], delimiter), [])
    except csv.Error:
        return line.split(delimiter)
