"""Reads the ISBNs of a file: text, CSV with any delimiter, TSV, or an Excel workbook."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from alexandria.common.text import counted, decode_text
from enrichment.isbn.parsing import MANY_ZEROS, InvalidIsbn, Reason, parse
from enrichment.isbn.programs import IDENTIFIERS, is_isbn_head, isbn_columns, recognise, squeezed
from enrichment.isbn.reading import State, is_nothing, read
from enrichment.isbn.suggestions import MAX_ZEROS_LOST
from enrichment.isbn.tables import Row, rows_of
from enrichment.isbn.workbooks import FileUnreadable, is_workbook, sheets_of

__all__ = ["FileUnreadable", "FileValues", "read_file", "read_text"]

_SAMPLE = 200  # rows that decide which columns hold ISBNs
_FEWEST = 9
"""Digits of an ISBN-10 that ends with X. Cells with fewer have no ISBN, and a closer look takes time."""
_HEAD_WITHIN = 10
"""The head line is one of the first rows: some programs write a title above it."""

_SEPARATORS = re.compile(r"[\t;,|]")
_QUOTED = re.compile(r'=?"(.*)"', re.DOTALL)
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

    In a table without heads, also the ISBN-13s in other columns; in a text without a table, everything with digits. The
    encoding is UTF-8, UTF-16, or else Windows-1252. Raises FileUnreadable.
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
    """The values in a text that somebody has pasted, like those of a file."""
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
    columns = isbn_columns(heads) | (_columns(below[:_SAMPLE]) if len(below) > 1 else set())
    found.values += [value for row in above for value in _isbns_among(row)]
    lost = _Lost(heads)
    for row in below:
        chosen = [column for column in sorted(columns) if column < len(row)]
        others = [cell for column, cell in enumerate(row) if column not in columns]
        cells = [cell for column in chosen for cell in _cells(row[column], heads, column)]
        if not columns:
            cells = _numbers(row)
        elif not heads:
            cells += [cell for cell in _isbns_among(others) if _digit_count(cell) >= 13]
        elif len(row) != len(heads):  # a stray delimiter or quote has moved its cells
            cells += _isbns_among(others)
        found.values += lost.kept(cells, row, chosen or range(len(row)))
    found.notes += lost.notes()


def _read_list(lines: Sequence[str], found: FileValues) -> None:
    """Lines that are no table. One with an ISBN has only that; one of numbers and delimiters is all numbers."""
    heads = lines[:1] if len(lines) > 1 and _is_head(lines[:1]) else []
    lines = lines[len(heads) :]
    lost = _Lost(heads)
    for line in lines:
        cell = _unquoted(line)
        found.values += lost.kept([] if is_nothing(cell) else _pieces(cell), [cell], [0])
    found.notes += lost.notes()


def _pieces(line: str) -> list[str]:
    """The parts of the line between delimiters that can be ISBNs; the line, if there are none."""
    parts = _SEPARATORS.split(line)
    return (_numbers(parts) if len(parts) > 1 else []) or [line]


def _numbers(cells: Sequence[str]) -> list[str]:
    """Cells with an ISBN, or with digits and no letters."""
    cells = [cell for each in cells if _has_digit(cell := _unquoted(each))]
    return [cell for cell in cells if not any(map(str.isalpha, cell)) or _may_be_isbn(cell)]


def _columns(rows: Sequence[Row]) -> set[int]:
    """The columns in which most cells are ISBNs."""
    filled: Counter[int] = Counter()
    good: Counter[int] = Counter()
    for row in rows:
        for column, cell in enumerate(row):
            if not is_nothing(cell):
                filled[column] += 1
                good[column] += _is_meant(_unquoted(cell))
    return {column for column in filled if good[column] * 2 > filled[column]}


def _cells(cell: str, heads: Row, column: int) -> Iterator[str]:
    """The cell, unless it is empty; in Calibre's column of identifiers, only the ISBNs."""
    cell = _unquoted(cell)
    if is_nothing(cell):
        return
    if column < len(heads) and squeezed(heads[column]) == IDENTIFIERS:
        yield from _IDENTIFIER.findall(cell)
    else:
        yield cell


def _isbns_among(cells: Sequence[str]) -> list[str]:
    return [_unquoted(cell) for cell in cells if _is_meant(_unquoted(cell))]


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


def _unquoted(cell: str) -> str:
    """The cell without quotes, also those of `="…"`, which makes a spreadsheet take a number as text."""
    cell = cell.strip()
    quoted = _QUOTED.fullmatch(cell)
    return quoted[1].strip() if quoted else cell


def _is_head(row: Row) -> bool:
    """Whether a first row has names, or the numbers of the columns, and no ISBN."""
    is_numbered = len(row) > 1 and list(row) in ([str(at + first) for at in range(len(row))] for first in (0, 1))
    return is_numbered or any(map(is_isbn_head, row)) or not any(map(_has_digit, row))


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


def _digit_count(text: str) -> int:
    return sum(map(str.isdigit, text))


class _Lost:
    """Counts the cells whose digits a spreadsheet has lost, for one note for each column."""

    def __init__(self, heads: Row) -> None:
        self.heads = heads
        self.cells: Counter[int] = Counter()
        self.alone: Counter[int] = Counter()
        self.example: dict[int, str] = {}

    def kept(self, cells: list[str], row: Row, columns: Collection[int]) -> list[str]:
        """The cells without the lost ones, which are counted."""
        kept = [cell for cell in cells if not _is_lost(cell)]
        if len(kept) == len(cells):
            return kept
        has_other = bool(read(kept, is_spreadsheet=True).valid)
        for column in columns:
            if _is_lost(cell := _unquoted(row[column])):
                self.cells[column] += 1
                self.alone[column] += not has_other
                self.example.setdefault(column, cell)
        return kept

    def notes(self) -> list[str]:
        notes = []
        for column, count in sorted(self.cells.items()):
            name = f"the column {self.heads[column]!r}" if column < len(self.heads) else f"column {column + 1}"
            notes.append(
                f"{counted(count, 'cell')} of {name} lost digits, because a spreadsheet turned ISBNs into numbers like "
                f"{self.example[column]}. Rows without another ISBN: {self.alone[column]:,}. Export the list again, "
                "and format the column as text before a spreadsheet saves it."
            )
        return notes


def _is_lost(cell: str) -> bool:
    if not (cell.endswith(MANY_ZEROS) or "e+" in cell or "E+" in cell):  # most cells, and parsing them takes longer
        return False
    try:
        parse(cell)
    except InvalidIsbn as error:
        return error.reason in {Reason.DIGITS_LOST, Reason.WRONG_CHECK_DIGIT}
    return False
