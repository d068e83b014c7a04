"""Reads the ISBNs of a file: text, CSV with any delimiter, TSV, or an Excel workbook."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from alexandria.common.text import decode_text
from enrichment.isbn.lost import Lost, is_lost
from enrichment.isbn.parsing import Reason, has_digits
from enrichment.isbn.programs import (
    IDENTIFIERS,
    is_isbn_head,
    is_lone_head,
    is_other_head,
    isbn_columns,
    recognise,
    squeezed,
)
from enrichment.isbn.reading import Entry, State, is_nothing, read
from enrichment.isbn.suggestions import MAX_ZEROS_LOST
from enrichment.isbn.tables import FileUnreadable, Row, rows_of, unquoted
from enrichment.isbn.workbooks import is_workbook, sheets_of

__all__ = ["FileUnreadable", "FileValues", "read_file", "read_text"]

_SAMPLE = 200  # rows that decide which columns hold ISBNs
_MAX_SAMPLE_WIDTH = 100  # cells of each of these rows
MAX_VALUES = 200_000
"""Of a file. A list has 100,000 different ISBNs at most."""
MAX_LOOKS = 20_000
"""Cells of a file that are read to find out whether they have an ISBN, beside those of 13 digits. Those after them are
not ISBNs where other columns have some, and are taken as they are where none has."""
_FEWEST = 9
"""Digits of an ISBN-10 that ends with X. Cells with fewer have no ISBN, and a closer look takes time."""
_HEAD_WITHIN = 10
"""The head line is one of the first rows: some programs write a title above it."""

_ADDRESS = re.compile(r"(?:https?://|www\.)[^\s,;|<>\"]*", re.IGNORECASE)
_SEPARATOR = re.compile(r"[\t;,|]")
_LETTER = re.compile(r"[^\W\d_]")
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

    def add(self, values: Iterable[str]) -> None:
        """Raises FileUnreadable at the first value too many."""
        self.values += values
        if len(self.values) > MAX_VALUES:
            raise FileUnreadable(f"The file has more than {MAX_VALUES:,} values.")


def read_file(data: bytes) -> FileValues:
    """The values in a file: in the columns that are called ISBN, and in those in which most cells are ISBNs.

    In a table without heads, also the ISBN-13s in other columns; in a text without a table, every line. In a file that
    Alexandria has written, one value of each row: its ISBN-13, or else what was given. In no table are web addresses
    read, nor columns of suggestions and other ISBNs. The encoding is UTF-8, UTF-16, or else Windows-1252.

    One row is in memory at a time, and lines, cells and values are counted while they are read. Raises FileUnreadable
    at the first one too many.
    """
    found = FileValues()
    if is_workbook(data):
        with sheets_of(data) as sheets:
            for rows in sheets:
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


def _read_rows(rows: Iterable[Row], found: FileValues) -> None:
    filled = (row for row in rows if any(map(str.strip, row)))
    start = list(islice(filled, _SAMPLE + _HEAD_WITHIN))
    if not start:
        return
    if max(map(len, start[:_SAMPLE])) == 1:
        _read_list(start, filled, found)
    else:
        _read_table(start, filled, found)


def _read_table(start: Sequence[Row], rest: Iterable[Row], found: FileValues) -> None:
    head_at = next((at for at, row in enumerate(start[:_HEAD_WITHIN]) if any(map(is_isbn_head, row))), None)
    if head_at is None and len(start) > 1 and _is_head(start[0]):
        head_at = 0
    heads: Row = [] if head_at is None else start[head_at]
    above = start[: head_at or 0]
    start = start if head_at is None else start[head_at + 1 :]
    below = chain(start, rest)
    if (program := recognise(heads)) and not found.program:
        found.program = program.name
        found.notes.insert(0, f"This is an export of {program.name}.")
    looks = _Looks()
    found.add(value for row in above for value in looks.isbns_among(_readable(row)))
    if program and program.reads:
        _read_by_priority(below, heads, program.reads, found)
        return
    named = isbn_columns(heads)
    others = {column for column, head in enumerate(heads) if is_other_head(head)}
    not_read: set[int] = set()
    sample = [_readable(row, named, others) for row in start[:_SAMPLE]]
    columns = named | (looks.columns(sample) if len(sample) > 1 else set())
    lost = Lost(heads, is_table=bool(columns))
    for row in below:
        not_read |= {at for at in others - not_read if at < len(row) and looks.is_meant(unquoted(row[at]))}
        row = _readable(row, named, others)  # noqa: PLW2901
        chosen = [column for column in sorted(columns) if column < len(row)]
        cells = [cell for column in chosen for cell in _cells(row[column], heads, column)]
        if not columns:
            cells = looks.numbers(row)
        elif not heads or (len(row) != len(heads) and not others):  # a stray delimiter or quote has moved its cells
            beside = [cell for column, cell in enumerate(row) if column not in columns]
            cells += [cell for cell in looks.isbns_among(beside) if heads or has_digits(cell, 13)]
        found.add(lost.kept(cells, row, chosen))
    for column in sorted(not_read):
        found.notes.append(f"The column {heads[column]!r} was not read. Its ISBNs are not those of the list.")
    if columns and not looks.left:
        found.notes.append(f"Outside the columns of ISBNs, only {MAX_LOOKS:,} cells were searched for ISBNs.")
    found.notes += lost.notes()


def _read_by_priority(rows: Iterable[Row], heads: Row, names: Sequence[str], found: FileValues) -> None:
    """One value for each row, of the first of the columns that has one. If a spreadsheet has destroyed it, the next."""
    at = {squeezed(head): column for column, head in enumerate(heads)}
    columns = [at[name] for name in names if name in at]
    lost = Lost(heads)
    for row in rows:
        filled = [column for column in columns if column < len(row) and not is_nothing(row[column])]
        cells = [unquoted(row[column].strip().removeprefix("'")) for column in filled]  # it stands before a formula
        if filled[:1] == columns[:1]:
            cells = lost.kept(cells, row, columns[:1])
        found.add(cells[:1])
    found.notes += lost.notes()


def _read_list(start: Sequence[Row], rest: Iterable[Row], found: FileValues) -> None:
    """Lines that are no table. One with an ISBN has only that; one of numbers and delimiters is all numbers.

    Below a head, the lines are a column. Otherwise each is a value, also one whose digits a spreadsheet has lost.
    """
    heads = start[0] if len(start) > 1 and is_lone_head(unquoted(start[0][0])) else []
    lost = Lost(heads, is_table=bool(heads))
    looks = _Looks()
    for row in chain(start[len(heads) :], rest):
        cell = unquoted(row[0])
        cells = [] if is_nothing(cell) else looks.pieces(cell)
        found.add(lost.kept(cells, [cell], [0]))
    found.notes += lost.notes()


def _readable(row: Row, named: Collection[int] = (), others: Collection[int] = ()) -> Row:
    """The row without the cells of `others`, and without web addresses, except in the columns that are called ISBN."""
    return [
        cell if column in named else "" if column in others else _ADDRESS.sub(" ", cell) if "/" in cell else cell
        for column, cell in enumerate(row)
    ]


def _cells(cell: str, heads: Row, column: int) -> Iterator[str]:
    """The cell, unless it is empty; in Calibre's column of identifiers, only the ISBNs."""
    cell = unquoted(cell)
    if is_nothing(cell):
        return
    if column < len(heads) and squeezed(heads[column]) == IDENTIFIERS:
        yield from _IDENTIFIER.findall(cell)
    else:
        yield cell


class _Looks:
    """Finds the cells of a file that have ISBNs. It takes a closer look at MAX_LOOKS of them."""

    def __init__(self) -> None:
        self.left = MAX_LOOKS

    def columns(self, rows: Sequence[Row]) -> set[int]:
        """The columns in which most cells are ISBNs."""
        filled: Counter[int] = Counter()
        good: Counter[int] = Counter()
        for row in rows:
            for column, cell in enumerate(row[:_MAX_SAMPLE_WIDTH]):
                if not is_nothing(cell):
                    filled[column] += 1
                    good[column] += self.is_meant(unquoted(cell))
        return {column for column in filled if good[column] * 2 > filled[column]}

    def isbns_among(self, cells: Iterable[str]) -> list[str]:
        return [cell for each in cells if self.is_meant(cell := unquoted(each))]

    def pieces(self, line: str) -> list[str]:
        """The parts of the line that can be ISBNs, between delimiters; the line, without any and for `9,78E+12`."""
        if is_lost(line):
            return [line]
        return (self.numbers(_SEPARATOR.split(line)) if _SEPARATOR.search(line) else []) or [line]

    def numbers(self, cells: Iterable[str]) -> list[str]:
        """Cells with an ISBN, or with digits and no letters, or whose digits a spreadsheet has lost."""
        cells = (unquoted(cell) for cell in cells if has_digits(cell, 1))
        return [cell for cell in cells if not _LETTER.search(cell) or self._may_be_isbn(cell) or is_lost(cell)]

    def is_meant(self, cell: str) -> bool:
        """Whether it has an ISBN, or 13 digits with a wrong check digit. Ten such digits are often another number."""
        return has_digits(cell, _FEWEST) and any(
            entry.state is not State.INVALID
            or (entry.reason is Reason.WRONG_CHECK_DIGIT and sum(map(str.isdigit, entry.input)) == 13)
            for entry in self._read(cell)
        )

    def _may_be_isbn(self, piece: str) -> bool:
        if not has_digits(piece, _FEWEST - MAX_ZEROS_LOST):
            return False
        entries = self._read(piece)
        return not self.left or any(entry.state is not State.INVALID or entry.suggestion for entry in entries)

    def _read(self, cell: str) -> Sequence[Entry]:
        if len(cell) != 13:  # those of 13 are quickly read, and most of them are ISBNs
            if not self.left:
                return ()
            self.left -= 1
        return read([cell]).entries


def _is_head(row: Row) -> bool:
    """Whether a first row has names, or the numbers of the columns, and no ISBN."""
    is_numbered = len(row) > 1 and list(row) in ([str(at + first) for at in range(len(row))] for first in (0, 1))
    is_named = any(is_isbn_head(cell) or is_other_head(cell) for cell in row)
    return is_numbered or is_named or not any(has_digits(cell, 1) for cell in row)
