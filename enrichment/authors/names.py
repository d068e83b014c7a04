"""Reads author names from a list: one name per line, or a table with or without a head line."""

import csv
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count, pairwise

from alexandria.common.text import counted, decode_text
from enrichment.authors.splitting import CannotTell, Style, is_inverted, split
from enrichment.books.match_keys import name_key
from enrichment.gateway.listings import MAX_NAME_LENGTH
from enrichment.isbn.parsing import InvalidIsbn, parse
from enrichment.isbn.programs import AUTHOR_COLUMNS, OTHER_COLUMNS, STORYGRAPH, recognise, squeezed

_UNKNOWN_HEADS = {"writer", "writers", "writer_name", "names", "person", "creator", "contributor", "autor", "auteur"}
"""First cells that are no name but a head line that is not known."""

_INVISIBLE = re.compile(
    "[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]|(?<![\u0600-\u1cff])[\u200c\u200d]"
)
"""Zero-width characters, soft hyphens and marks of direction. In Arabic and Indian scripts, joiners have a meaning."""

_DELIMITERS = ",;\t"

_MAX_LINE = 100_000
"""Characters. No program writes so much of one book."""

_LINES_FOR_A_NAME = 10
"""On average, at most, where the number of names is limited: a library has several books by one author."""

Cells = list[tuple[int, str]]
"""Texts with their lines."""


class NamesUnreadable(Exception):
    """The list of authors is unreadable or empty."""


@dataclass(frozen=True)
class Rejected:
    """A text that is not a name, with its line (from 1)."""

    line: int
    text: str
    reason: str


@dataclass
class Names:
    """The names of a list, in order. All spellings of a name count once (see enrichment.books.match_keys)."""

    names: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    duplicates: int = 0
    encoding: str = ""
    """The encoding, if it was guessed."""
    column: str = ""
    """What a person should know about the column that was read."""

    @property
    def key(self) -> str:
        """Identifies the list: equal for the same names in the same order."""
        return list_key(*map(name_key, self.names))

    def notes(self, *, most: int | None = None) -> list[str]:
        """What a person should know about the list; at most `most` of its rejected lines."""
        notes = [f"The list is not UTF-8. It was read as {self.encoding}."] if self.encoding else []
        notes += [self.column] if self.column else []
        if self.duplicates:
            notes.append(f"{counted(self.duplicates, 'duplicate name')} ignored.")
        shown = self.rejected[:most]
        notes += [f"Line {bad.line} is not a name ({bad.reason}): {bad.text!r}" for bad in shown]
        if more := len(self.rejected) - len(shown):
            notes.append(f"{counted(more, 'more line')} without a name.")
        return notes


def list_key(*parts: str) -> str:
    """A short key for some texts."""
    return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def read_names(content: bytes, *, most: int | None = None) -> Names:
    """The names in a file: UTF-8, UTF-16 with a byte order mark, otherwise Windows-1252.

    If the head line has one of AUTHOR_COLUMNS, reads that column of the table (commas, semicolons or tabs). Otherwise
    reads the first cell of each line. It can be quoted; if not, it ends at a tab, a semicolon, or a comma without a
    blank after it: `Herbert, Frank` is a name, `Frank Herbert,1920` is a name and something else. Empty lines are
    ignored.
    Several names in a cell are split, or rejected when it is not clear that they are several.

    Raises NamesUnreadable when there is no name, when the first column of a table without a known one has something
    else, when a quote in a table is never closed, or for a line that is too long. With `most`, also at the first name
    or rejected line beyond so many, and for ten times as many lines.
    """
    decoded = decode_text(content)
    table = _read(decoded.text, most)
    names = _collect(table.cells, table.style(), most)
    names.encoding, names.column = decoded.guessed, table.note
    if not names.names:
        raise NamesUnreadable(f"{table.note} The list has no author name in it.".lstrip())
    return names


def collect(cells: Iterable[tuple[int, str]]) -> Names:
    """The names in numbered texts, each of which is one name. Raises NamesUnreadable when there is none."""
    names = _collect(cells, None)
    if not names.names:
        raise NamesUnreadable("The list has no author name in it.")
    return names


def _collect(cells: Iterable[tuple[int, str]], style: Style | None, most: int | None = None) -> Names:
    names, seen = Names(), set[str]()
    for line, cell in cells:
        _add(names, seen, line, cell, style)
        if most is not None and len(names.names) > most:
            raise NamesUnreadable(f"The list has more than {counted(most, 'author')}.")
        if most is not None and len(names.rejected) > most:
            raise NamesUnreadable(f"The list has more than {counted(most, 'line')} without a name.")
    return names


def _add(names: Names, seen: set[str], line: int, cell: str, style: Style | None) -> None:
    try:
        found = [cell] if style is None else split(cell, style)
    except CannotTell as error:
        names.rejected.append(Rejected(line, _tidy(cell)[:80], str(error)))
        return
    for name in filter(None, map(_tidy, found)):
        if reason := _objection(name):
            names.rejected.append(Rejected(line, name[:80], reason))
        elif (key := name_key(name)) in seen:
            names.duplicates += 1
        else:
            seen.add(key)
            names.names.append(name)


def _tidy(text: str) -> str:
    """The name as it is given, but with single blanks and without invisible characters, which are pasted by mistake."""
    return " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFC", text)).split())


def _objection(name: str) -> str:
    if len(name) > MAX_NAME_LENGTH:
        return f"longer than {MAX_NAME_LENGTH} characters"
    if any(unicodedata.category(character) in {"Cc", "Cs", "Cn"} or character == "\ufffd" for character in name):
        return "control or undefined characters"
    if not any(map(str.isalpha, name)):
        return "no letter"
    return "an ISBN" if _is_isbn(name) else ""


def _is_isbn(text: str) -> bool:
    try:
        parse(text)
    except InvalidIsbn:
        return False
    return True


@dataclass
class _Table:
    """The column of names. `heads`: the cells of the head line. `note`: see Names.column."""

    cells: Cells
    heads: list[str] = field(default_factory=list)
    name: str = ""
    note: str = ""

    def style(self) -> Style:
        return Style(
            inverted=is_inverted(cell for _, cell in self.cells),
            plural=self.name == "authors",
            never_inverted=self.name == "authors" and recognise(self.heads) is STORYGRAPH,
        )


def _read(text: str, most: int | None) -> _Table:
    lines = text.splitlines()
    if most is not None and len(lines) > _LINES_FOR_A_NAME * most:
        raise NamesUnreadable(f"The list has more than {_LINES_FOR_A_NAME * most:,} lines.")
    if too_long := next((number for number, line in enumerate(lines, 1) if len(line) > _MAX_LINE), None):
        raise NamesUnreadable(f"Line {too_long} has more than {_MAX_LINE:,} characters. Put each name on its own line.")
    first = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    head = lines[first] if first < len(lines) else ""
    delimiter = max(_DELIMITERS, key=head.count)
    cells = next(csv.reader([head], delimiter=delimiter), [])
    heads = [squeezed(cell) for cell in cells]
    column = next((heads.index(name) for name in AUTHOR_COLUMNS if name in heads), None)
    if column is None or _is_a_person(cells, cells[column]):
        note, is_head = _first_column(head, cells)
        first += is_head
        return _Table(list(zip(count(first + 1), map(_first_cell, lines[first:]), strict=False)), note=note)
    below = lines[first + 1 :]
    if len(heads) == 1:
        found = list(zip(count(first + 2), map(_whole_line, below), strict=False))
    else:
        found = list(_column(below, first + 1, column, delimiter))
    return _Table(found, heads, heads[column])


def _first_column(line: str, cells: list[str]) -> tuple[str, bool]:
    """A note on a list without a known column of names, and whether its first line is a head line.

    Raises NamesUnreadable when the first column certainly has no names.
    """
    heads = [squeezed(cell) for cell in cells]
    is_table = sum(map(bool, heads)) > 1 and _first_cell(line) != line.strip()
    note = "No column is called author"
    if is_table and heads[0] in OTHER_COLUMNS:
        raise NamesUnreadable(f"{note}. Call the column of names author. The first line is: {line.strip()[:200]}")
    if (heads and heads[0] in _UNKNOWN_HEADS) or (is_table and all(map(_is_a_small_word, cells))):
        return f"{note}: the first one is taken, {cells[0].strip()!r}.", True
    return (f"{note}: the first one is taken. It begins with {cells[0].strip()!r}.", False) if is_table else ("", False)


def _is_a_small_word(cell: str) -> bool:
    return cell.islower() and cell.strip().replace("_", "").isalpha()


def _is_a_person(cells: list[str], trade: str) -> bool:
    """Whether a line that looks like a head line is a person and a profession: `Frank Herbert, author`."""
    return trade.strip().islower() and any(" " in cell.strip() and not cell.islower() for cell in cells)


def _column(lines: list[str], skipped: int, column: int, delimiter: str) -> Iterator[tuple[int, str]]:
    reader = csv.reader([f"{line}\n" for line in lines], delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if column < len(row):
                yield reader.line_num + skipped, row[column]
    except csv.Error as error:
        raise NamesUnreadable(f"Line {reader.line_num + skipped} is not CSV: {error}.") from error


def _whole_line(line: str) -> str:
    line = line.strip()
    return next(csv.reader([line]))[0] if line.startswith('"') else line


def _first_cell(line: str) -> str:
    line = line.strip()
    if line.startswith('"'):
        return _whole_line(line)
    ends = [place for delimiter in "\t;" if (place := line.find(delimiter)) >= 0]
    ends += [place for place, (one, two) in enumerate(pairwise(line)) if one == "," and two != " "]
    return line[: min(ends)] if ends else line.rstrip(",")
