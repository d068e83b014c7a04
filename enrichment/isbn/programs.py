"""The names that programs give to the columns of their exports: the one place for them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    """A program whose exports are recognised by columns that only it has."""

    name: str
    columns: frozenset[str]
    reads: Sequence[str] = ()
    """Its columns with the ISBN of a row, by priority. (): all columns of ISBNs are read."""


# Heads are compared as `squeezed` returns them.
STORYGRAPH = Program("StoryGraph", frozenset({"isbn/uid"}))
_OURS = ("isbn13", "input", "given", "isbn10")
PROGRAMS = (
    Program("Alexandria", frozenset({"isbn13", "input", "state", "suggestion"}), _OURS),
    Program("Alexandria", frozenset({"isbn13", "given", "state", "suggestion"}), _OURS),
    Program("Alexandria", frozenset({"isbn13", "work_id", "work_title"}), _OURS),
    Program("Goodreads", frozenset({"author_l_f", "isbn13", "exclusive_shelf"})),
    STORYGRAPH,
    Program("LibraryThing", frozenset({"primary_author", "isbns", "collections"})),
    Program("BookWyrm", frozenset({"author_text", "openlibrary_key", "isbn_13"})),
    Program("Libib", frozenset({"creators", "ean_isbn13"})),
    Program("Calibre", frozenset({"author_sort", "identifiers"})),
    Program("Calibre", frozenset({"author_sort", "title_sort", "isbn"})),
)
IDENTIFIERS = "identifiers"
"""Calibre's column of pairs, such as `isbn:9780441172719,goodreads:44767458`."""

AUTHOR_COLUMNS = ("author_name", "author", "authors", "primary_author", "author_(first,_last)", "full_name", "name")
"""Heads of the column of authors, by priority."""

OTHER_COLUMNS = frozenset({"id", "book_id", "isbn", "isbn13", "isbn_13", "isbn10", "isbn_10", "title", "book_title"})
"""Heads of columns that certainly have no authors."""

_ISBN_HEAD = re.compile(r"(?:.*[^a-z])?(?:[ep]?_?isbns?|ean|gtin)(?:_?\(?1[03]\)?)?s?(?:[^a-z].*)?")
_OTHER_HEAD = re.compile(
    r"(?:.*[^a-z])?(?:suggestions?|(?:suggested|other|related|similar|alternat(?:iv)?e)_(?:[ep]?_?isbn|ean|gtin).*)"
)
_LONE_HEAD = re.compile(
    r"[^a-z0-9]*(?:(?:[ep]?_?isbns?|eans?|gtins?|1[03]|identifiers|numbers?|nummern?|nr|codes?|lists?)[^a-z0-9]*)+"
)
_MAX_HEAD_LENGTH = 40
_MAX_HEAD_DIGITS = 4
"""Of `ISBN-10 / ISBN-13`. With more, it is a value such as `ISBN 9780441172719`."""


def squeezed(head: str) -> str:
    """A head in lower case, with `_` for blanks and hyphens, and without quotes."""
    return head.strip().strip("'\"").casefold().replace(" ", "_").replace("-", "_")


def recognise(heads: Sequence[str]) -> Program | None:
    """The program that wrote a table with these heads."""
    has = {squeezed(head) for head in heads}
    return next((program for program in PROGRAMS if program.columns <= has), None)


def isbn_columns(heads: Sequence[str]) -> set[int]:
    """The columns whose heads say that they have ISBNs."""
    return {at for at, head in enumerate(heads) if is_isbn_head(head)}


def is_isbn_head(head: str) -> bool:
    squeeze = squeezed(head)
    if len(squeeze) > _MAX_HEAD_LENGTH or sum(map(str.isdigit, squeeze)) > _MAX_HEAD_DIGITS or is_other_head(head):
        return False
    return squeeze == IDENTIFIERS or _ISBN_HEAD.fullmatch(squeeze) is not None


def is_lone_head(line: str) -> bool:
    """Whether the first line of a list says only that ISBNs follow: `ISBN`, `EAN / ISBN-13`, `ISBN list`."""
    return is_isbn_head(line) and _LONE_HEAD.fullmatch(squeezed(line)) is not None


def is_other_head(head: str) -> bool:
    """Whether a column has ISBNs of other books than those of the list: suggestions, other editions."""
    squeeze = squeezed(head)
    return len(squeeze) <= _MAX_HEAD_LENGTH and _OTHER_HEAD.fullmatch(squeeze) is not None
