"""Reads author names from a list: one name per line, or a table with or without a header."""

import csv
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count, pairwise

from alexandria.common.text import decode_text
from enrichment.books.match_keys import name_key
from enrichment.gateway.listings import MAX_NAME_LENGTH
from harvest.bulk.exceptions import NamesUnreadable

COLUMNS = ("author_name", "author", "authors", "full_name", "name")
"""Accepted headers of the column of names, by priority. Upper case, blanks and hyphens for `_` are accepted too."""

_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class AuthorList:
    """A list of authors: its source, a key that identifies it, and a function that returns its names."""

    label: str
    key: str
    names: Callable[[], list[str]]


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

    @property
    def key(self) -> str:
        """Identifies the list: equal for the same names in the same order."""
        return list_key(*map(name_key, self.names))


def list_key(*parts: str) -> str:
    """A short key for some texts."""
    return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def read_names(content: bytes) -> Names:
    """The names in a file: UTF-8, UTF-16 with a byte order mark, otherwise Windows-1252.

    If the header has one of COLUMNS, reads that column of the table (commas, semicolons or tabs). Otherwise reads the
    first cell of each line. It can be quoted; if not, it ends at a tab, a semicolon, or a comma without a blank after
    it: `Herbert, Frank` is a name, `Frank Herbert,1920` is a name and something else. Empty lines are ignored.

    Raises NamesUnreadable when there is no name, or when a quote in a table is never closed.
    """
    decoded = decode_text(content)
    names = collect(_cells(decoded.text))
    names.encoding = decoded.guessed
    return names


def collect(cells: Iterable[tuple[int, str]]) -> Names:
    """The names in numbered texts. Raises NamesUnreadable when there is none."""
    names, seen = Names(), set[str]()
    for line, cell in cells:
        name = " ".join(unicodedata.normalize("NFC", cell).split())
        if not name:
            continue
        if reason := _objection(name):
            names.rejected.append(Rejected(line, name[:80], reason))
        elif (key := name_key(name)) in seen:
            names.duplicates += 1
        else:
            seen.add(key)
            names.names.append(name)
    if not names.names:
        raise NamesUnreadable("The list has no author name in it.")
    return names


def _objection(name: str) -> str:
    if len(name) > MAX_NAME_LENGTH:
        return f"longer than {MAX_NAME_LENGTH} characters"
    if any(unicodedata.category(character) in {"Cc", "Cs", "Cn"} or character == "\ufffd" for character in name):
        return "control or undefined characters"
    if not any(map(str.isalpha, name)):
        return "no letter"
    return ""


def _cells(text: str) -> Iterator[tuple[int, str]]:
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    header = lines[first] if first < len(lines) else ""
    delimiter = max(_DELIMITERS, key=header.count)
    cells = next(csv.reader([header], delimiter=delimiter), [])
    columns = [_squeezed(cell) for cell in cells]
    column = next((columns.index(name) for name in COLUMNS if name in columns), None)
    if column is None or _is_a_person(cells, cells[column]):
        yield from zip(count(first + 1), map(_first_cell, lines[first:]), strict=False)
    elif len(columns) == 1:
        yield from zip(count(first + 2), map(_whole_line, lines[first + 1 :]), strict=False)
    else:
        yield from _column(lines[first + 1 :], first + 1, column, delimiter)


def _is_a_person(cells: list[str], trade: str) -> bool:
    """Whether a line that looks like a header is a person and a profession: `Frank Herbert, author`."""
    return trade.strip().islower() and any(" " in cell.strip() and not cell.islower() for cell in cells)


def _column(lines: list[str], skipped: int, column: int, delimiter: str) -> Iterator[tuple[int, str]]:
    reader = csv.reader([f"{line}\n" for line in lines], delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if column < len(row):
                yield reader.line_num + skipped, row[column]
    except csv.Error as error:
        raise NamesUnreadable(f"Line {reader.line_num + skipped} is not CSV: {error}.") from error


def _squeezed(cell: str) -> str:
    return cell.strip().casefold().replace(" ", "_").replace("-", "_")


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
