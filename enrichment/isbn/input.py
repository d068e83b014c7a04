"""Finds ISBNs in what people paste and upload: text, or CSV with any columns and any delimiter."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from enrichment.isbn.parsing import InvalidIsbn, Reason, parse

_DELIMITERS = "\t;,|"
_SAMPLE = 200  # rows that decide which columns hold ISBNs
_NAME = re.compile(r"[^0-9]*")
_ISBN_NAME = re.compile(r"(e-?)?(isbn|ean)[ _-]?(1[03])?$", re.IGNORECASE)
_FORMULA = re.compile(r'="(.*)"')  # makes a spreadsheet treat an ISBN as text


def read_values(text: str) -> list[str]:
    """Returns the values in a text that may be meant as ISBNs, in order, with duplicates and mistakes, unchecked.

    In a table, it reads the columns in which most cells are ISBNs, or the column with the most ISBNs. It skips a first
    row of headings. It splits a cell with several words when one of them is an ISBN.
    """
    rows = [cells for row in _rows(text) if any(cells := [_cell(cell) for cell in row])]
    if rows and _is_heading(rows[0]):
        del rows[0]
    chosen = _columns(rows[:_SAMPLE])
    values: list[str] = []
    for row in rows:
        for column, cell in enumerate(row):
            if cell and (chosen is None or column in chosen):
                values += _words(cell)
    return values


def _rows(text: str) -> Iterable[Sequence[str]]:
    lines = text.replace("\0", "").splitlines()
    counts = Counter({mark: sum(line.count(mark) for line in lines[:_SAMPLE]) for mark in _DELIMITERS})
    delimiter, found = counts.most_common(1)[0]
    if not found:
        return [[line] for line in lines]
    try:
        return list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter, skipinitialspace=True))
    except csv.Error:  # a stray quote turned the rest of the file into one cell that is too large
        return [line.split(delimiter) for line in lines]


def _cell(cell: str) -> str:
    cell = cell.strip()
    formula = _FORMULA.fullmatch(cell)
    return (formula[1] if formula else cell).strip("\"' ")


def _is_heading(row: Sequence[str]) -> bool:
    return all(map(_NAME.fullmatch, row)) or any(map(_ISBN_NAME.match, row))


def _columns(rows: Sequence[Sequence[str]]) -> set[int] | None:
    """The columns that hold ISBNs; None for all cells: when there is one row or column, or no ISBN at all."""
    filled: Counter[int] = Counter()
    good: Counter[int] = Counter()
    for row in rows:
        for column, cell in enumerate(row):
            if cell:
                filled[column] += 1
                good[column] += any(map(_is_meant, _words(cell)))
    if len(rows) < 2 or len(filled) < 2 or not good.total():
        return None
    mostly = {column for column in filled if good[column] * 2 > filled[column]}
    return mostly or {good.most_common(1)[0][0]}


def _words(cell: str) -> list[str]:
    """The cell, or its words with digits when one of them is an ISBN and the cell as a whole is not."""
    if _reason(cell) is None:
        return [cell]
    words = [word for word in cell.split() if _has_digit(word)]
    return words if any(_reason(word) is None for word in words) else [cell]


def _is_meant(value: str) -> bool:
    """Whether it is an ISBN, or 13 digits with a wrong check digit. Ten such digits are often some other number."""
    reason = _reason(value)
    return reason is None or (reason is Reason.WRONG_CHECK_DIGIT and sum(map(str.isdigit, value)) == 13)


def _reason(value: str) -> Reason | None:
    try:
        parse(value)
    except InvalidIsbn as error:
        return error.reason
    return None


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))
