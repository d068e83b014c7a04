"""Reads the ISBNs of a file: text, CSV with any delimiter, TSV, or an Excel workbook."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from alexandria.common.text import decode_text
from enrichment.isbn.lost import Lost, is_lost
from enrichment.isbn.parsing import Reason
from enrichment.isbn.programs import (
    IDENTIFIERS,
    is_isbn_head,
    is_lone_head,
    is_other_head,
    isbn_columns,
    recognise,
    squeezed,
)
from enrichment.isbn.reading import State, is_nothing, read
from enrichment.isbn.suggestions import MAX_ZEROS_LOST
from enrichment.isbn.tables import FileUnreadable, Row, rows_of, unquoted
from enrichment.isbn.workbooks import is_workbook, sheets_of

__all__ = ["FileUnreadable", "FileValues", "read_file", "read_text"]

_SAMPLE = 200  # rows that decide which columns hold ISBNs
_FEWEST = 9
"""Digits of an ISBN-10 that ends with X. Cells with fewer have no ISBN, and a closer look takes time."""
_HEAD_WITHIN = 10
"""The head line is one of the first rows: some programs write a title above it."""

_ADDRESS = re.compile(r"(?:https?://|www\.)[^\s,;|<>\"]*", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\t;,|]")
_IDENTIFIER = re.compile(r"(?:^|,)\s*isbn\w*:([^,]*)", re.IGNORECASE)


@dataclass
class FileValues:
    """The cells of a file that may be meant as ISBNs, unchecked, for `read` with `is_spreadsheet`."""

    values: list[str] = field(default_factory=list)
    """In order, with duplicates and mistakes, without empty cells and without those that `notes` tells of."""
    program: str = ""
    """The program that wrote the file, such as Goodreads; "" when it is not recognised."""
    notes: list[str] = field(default_factory=list)
    """What a person should know about the whole file or a column."""


def read_file(data: bytes) -> FileValues:
    """The values in a file: in the columns that are called ISBN, and in those in which most cells are ISBNs.

    In a table without heads, also the ISBN-13s in other columns; in a text without a table, every line. In a file that
    Alexandria has written, one value of each row: its ISBN-13, or else what was given. In no table are web addresses
    read, nor columns of suggestions and other ISBNs. The encoding is UTF-8, UTF-16, or else Windows-1252. Raises
    FileUnreadable.
    """
    found = FileValues()
    if is_workbook(data):
        for rows in sheets_of(data):
            _read_rows(rows, found)
        return found
    decoded = decode_text(data)
    if decoded.guessed:
        found.notes.append(f"The file is not UTF-8. It was read as {decoded.guessed}.")
    _read_rows(rows_of(decoded.text), found)
    return found


def read_text(text: str) -> FileValues:
    """The values in a text that somebody has pasted, like those of a file. Raises FileUnreadable."""
    found = FileValues()
    _read_rows(rows_of(text), found)
    return found


def _read_rows(rows: Sequence[Row], found: FileValues) -> None:
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if not rows:
        return
    width = max(map(len, rows[:_SAMPLE]))
    if width == 1:
        _read_list([row[0] for row in rows if row], found)
    else:
        _read_table(rows, found)


def _read_table(rows: Sequence[Row], found: FileValues) -> None:
    head_at = next((at for at, row in enumerate(rows[:_HEAD_WITHIN]) if any(map(is_isbn_head, row))), None)
    heads: Row = [] if head_at is None else rows[head_at]
    above = rows[: head_at or 0]
    if head_at is None and len(rows) > 1 and _is_head(rows[0]):
        head_at, heads = 0, rows[0]
    below = rows if head_at is None else rows[head_at + 1 :]
    if (program := recognise(heads)) and not found.program:
        found.program = program.name
        found.notes.insert(0, f"This is an export of {program.name}.")
    found.values += [value for row in above for value in _isbns_among(_readable(row))]
    if program and program.reads:
        _read_by_priority(below, heads, program.reads, found)
        return
    named = isbn_columns(heads)
    others = {column for column, head in enumerate(heads) if is_other_head(head)}
    for column in sorted(others):
        if any(column < len(row) and _is_meant(unquoted(row[column])) for row in below):
            found.notes.append(f"The column {heads[column]!r} was not read. Its ISBNs are not those of the list.")
    below = [_readable(row, named, others) for row in below]
    columns = named | (_columns(below[:_SAMPLE]) if len(below) > 1 else set())
    lost = Lost(heads, is_table=bool(columns))
    for row in below:
        chosen = [column for column in sorted(columns) if column < len(row)]
        cells = [cell for column in chosen for cell in _cells(row[column], heads, column)]
        beside = [cell for column, cell in enumerate(row) if column not in columns]
        if not columns:
            cells = _numbers(row)
        elif not heads:
            cells += [cell for cell in _isbns_among(beside) if _digit_count(cell) >= 13]
        elif len(row) != len(heads) and not others:  # a stray delimiter or quote has moved its cells
            cells += _isbns_among(beside)
        found.values += lost.kept(cells, row, chosen)
    found.notes += lost.notes()


def _read_by_priority(rows: Sequence[Row], heads: Row, names: Sequence[str], found: FileValues) -> None:
    """One value for each row, of the first of the columns that has one. If a spreadsheet has destroyed it, the next."""
    at = {squeezed(head): column for column, head in enumerate(heads)}
    columns = [at[name] for name in names if name in at]
    lost = Lost(heads)
    for row in rows:
        filled = [column for column in columns if column < len(row) and not is_nothing(row[column])]
        cells = [unquoted(row[column].strip().removeprefix("'")) for column in filled]  # it stands before a formula
        if filled[:1] == columns[:1]:
            cells = lost.kept(cells, row, columns[:1])
        found.values += cells[:1]
    found.notes += lost.notes()


def _read_list(lines: Sequence[str], found: FileValues) -> None:
    """Lines that are no table. One with an ISBN has only that; one of numbers and delimiters is all numbers.

    Below a head, the lines are a column. Otherwise each is a value, also one whose digits a spreadsheet has lost.
    """
    heads = lines[:1] if len(lines) > 1 and is_lone_head(unquoted(lines[0])) else []
    lost = Lost(heads, is_table=bool(heads))
    for line in lines[len(heads) :]:
        cell = unquoted(line)
        cells = [] if is_nothing(cell) else _pieces(cell)
        found.values += lost.kept(cells, [cell], [0])
    found.notes += lost.notes()


def _readable(row: Row, named: Collection[int] = (), others: Collection[int] = ()) -> Row:
    """The row without the cells of `others`, and without web addresses, except in the columns that are called ISBN."""
    return [
        cell if column in named else "" if column in others else _ADDRESS.sub(" ", cell) if "/" in cell else cell
        for column, cell in enumerate(row)
    ]


def _pieces(line: str) -> list[str]:
    """The parts of the line between delimiters that can be ISBNs; the line, if there are none, and for `9,78E+12`."""
    if is_lost(line):
        return [line]
    parts = _SEPARATORS.split(line)
    return (_numbers(parts) if len(parts) > 1 else []) or [line]


def _numbers(cells: Sequence[str]) -> list[str]:
    """Cells with an ISBN, or with digits and no letters, or whose digits a spreadsheet has lost."""
    cells = [cell for each in cells if _has_digit(cell := unquoted(each))]
    return [cell for cell in cells if not any(map(str.isalpha, cell)) or _may_be_isbn(cell) or is_lost(cell)]


def _columns(rows: Sequence[Row]) -> set[int]:
    """The columns in which most cells are ISBNs."""
    filled: Counter[int] = Counter()
    good: Counter[int] = Counter()
    for row in rows:
        for column, cell in enumerate(row):
            if not is_nothing(cell):
                filled[column] += 1
                good[column] += _is_meant(unquoted(cell))
    return {column for column in filled if good[column] * 2 > filled[column]}


def _cells(cell: str, heads: Row, column: int) -> Iterator[str]:
    """The cell, unless it is empty; in Calibre's column of identifiers, only the ISBNs."""
    cell = unquoted(cell)
    if is_nothing(cell):
        return
    if column < len(heads) and squeezed(heads[column]) == IDENTIFIERS:
        yield from _IDENTIFIER.findall(cell)
    else:
        yield cell


def _isbns_among(cells: Sequence[str]) -> list[str]:
    return [cell for each in cells if _is_meant(cell := unquoted(each))]


def _is_meant(cell: str) -> bool:
    """Whether it has an ISBN, or 13 digits with a wrong check digit. Ten such digits are often some other number."""
    return _digit_count(cell) >= _FEWEST and any(
        entry.state is not State.INVALID
        or (entry.reason is Reason.WRONG_CHECK_DIGIT and _digit_count(entry.input) == 13)
        for entry in read([cell]).entries
    )


def _may_be_isbn(piece: str) -> bool:
    has_enough = _digit_count(piece) >= _FEWEST - MAX_ZEROS_LOST
    return has_enough and any(entry.state is not State.INVALID or entry.suggestion for entry in read([piece]).entries)


def _is_head(row: Row) -> bool:
    """Whether a first row has names, or the numbers of the columns, and no ISBN."""
    is_numbered = len(row) > 1 and list(row) in ([str(at + first) for at in range(len(row))] for first in (0, 1))
    is_named = any(is_isbn_head(cell) or is_other_head(cell) for cell in row)
    return is_numbered or is_named or not any(map(_has_digit, row))


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


def _digit_count(text: str) -> int:
    return sum(map(str.isdigit, text))
