"""Tells one author from several in a cell: `Herbert, Frank` is one, `Neil Gaiman & Terry Pratchett` are two."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from enrichment.books import person_notes
from enrichment.books.match_keys import is_suffix

_BREAK = re.compile(r"[;|\n\r]| / ")
"""Always stands between two names."""
_AND = re.compile(r"(?<!\s)\s+(?:&|and)\s+", re.IGNORECASE)
_AFTER_NOTE = re.compile(r"\s*,?\s*(?:(?:&|and)\s)?", re.IGNORECASE)
_INITIALS = re.compile(r"(\w\.)+|\w")


class CannotTell(Exception):
    """The cell may have several names. `count`: how many at most."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"one author or up to {count}: write one on each line")


@dataclass(frozen=True)
class Style:
    """How a list writes its names.

    `inverted`: mostly `Herbert, Frank`. `plural`: a cell can have several names with commas between them.
    `never_inverted`: a comma always separates names.
    """

    inverted: bool = False
    plural: bool = False
    never_inverted: bool = False


def is_inverted(cells: Iterable[str]) -> bool:
    """Whether most names of a list are like `Herbert, Frank`."""
    balance = 0
    for cell in cells:
        parts = _parts(cell)
        balance += len(parts) == 2 and not _is_whole(parts[0])
        balance -= len(parts) == 1 and _is_whole(cell)
    return balance > 0


def split(cell: str, style: Style) -> list[str]:
    """The names in a cell, without the years of lives and roles (person_notes.py). Raises CannotTell.

    After a note in brackets, a comma stands between two names: `Terry Pratchett (Author), Neil Gaiman (Author)`.
    """
    first, *rest = person_notes.between_notes(cell)
    parts = [first, *(_AFTER_NOTE.sub("", part, count=1) for part in rest)]
    pieces = [piece.strip() for part in parts for piece in _BREAK.split(part)]
    return [name for piece in pieces for name in _names(piece, style)]


def _names(text: str, style: Style) -> list[str]:
    pieces = [_parts(person_notes.without_notes(piece)) for piece in _AND.split(text)]
    parts = [part for piece in pieces for part in piece]
    if len(parts) == 1:
        return parts
    if style.never_inverted or (all(map(_is_whole, parts)) and (len(parts) > 2 or _is_list(pieces, style))):
        return parts
    if style.plural and not style.inverted and len(parts) > 2 and 2 * sum(map(_is_whole, parts)) > len(parts):
        return (
            parts  # `Homer, Robert Fagles, Bernard Knox`: inverted names would be complete in one part of two at most
        )
    if all(_is_one(piece, style) for piece in pieces):
        return [", ".join(piece) for piece in pieces]
    raise CannotTell(len(parts))


def _is_list(pieces: list[list[str]], style: Style) -> bool:
    """Whether two complete names are two authors, not the parts of one name as in `García Márquez, Gabriel José`."""
    return len(pieces) == 2 or (style.plural and not style.inverted)


def _is_one(piece: list[str], style: Style) -> bool:
    """Whether the part of a cell between two `and` is one name, which may be inverted."""
    if len(piece) != 2:
        return len(piece) == 1 and _is_whole(piece[0])
    if style.inverted:
        return True
    first, second = map(_is_whole, piece)
    return not first and not second if style.plural else not first or not second


def _parts(text: str) -> list[str]:
    """The text between the commas; `Jr.` and the like belong to the name before them."""
    parts: list[str] = []
    for part in filter(None, map(str.strip, text.split(","))):
        if parts and is_suffix(part):
            parts[-1] += f", {part}"
        else:
            parts.append(part)
    return parts or [text]


def _is_whole(part: str) -> bool:
    """Whether it can be a first and a last name: several words, and the last one is not an initial."""
    words = part.split()
    return len(words) > 1 and not _INITIALS.fullmatch(words[-1])
