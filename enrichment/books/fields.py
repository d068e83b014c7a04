"""The fields of a book: one entry for each.

An entry says which of ISBNdb's fields it reads, how it cleans what came, and what a person should know about that.
Everything that lists fields takes them from here: decoding, the columns of the upsert, the explanation of where a value
comes from, and the API. Book has a field for each column of Edition that comes from ISBNdb, and the two have one name.

To add a field, add an entry to Book and a column to Edition (and a rule to cleaning.py when none fits), then regenerate
the migration.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, get_type_hints
from uuid import UUID

import msgspec

from enrichment.books import cleaning
from enrichment.books.cleaning import DatePrecision


@dataclass(frozen=True)
class Field:
    """How a field of a book is made from what ISBNdb sent."""

    clean: Callable[..., object]
    """The rule. It takes a value for each name in `sent`, None for what ISBNdb did not send, and never raises."""
    sent: tuple[str, ...] = ()
    """ISBNdb's names of the fields that it reads. By default, the field's own name."""
    _: KW_ONLY
    example: object = ""
    """What the API's documentation shows."""
    note: str = ""
    """For people: what the rule does, beyond trimming and decoding HTML entities."""
    is_computed: bool = False
    """Whether it reads nothing that ISBNdb sends."""
    takes_isbn13: bool = False
    """Whether the rule takes the book's ISBN-13 as its last argument."""
    is_column: bool = True
    """Whether it is a column of Edition. Authors are rows of their own."""
    is_long: bool = False
    """Whether lists of books leave it out."""
    is_part: bool = False
    """Whether it is a part of another field, which explains it to people."""

    def value(self, content: Mapping[str, object], isbn13: str = "") -> Any:
        """The value of the field in a book that ISBNdb sent."""
        given = [content.get(name) for name in self.sent]
        return self.clean(*given, isbn13) if self.takes_isbn13 else self.clean(*given)


_PROSE = "entities stay when the text is HTML"


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """One book as ISBNdb knows it, in the order in which the API shows it.

    A text that is missing is "", a list []; lists have no duplicates.
    """

    isbn13: Annotated[
        str,
        Field(
            cleaning.first_isbn,
            ("isbn13", "isbn", "isbn10"),
            example="9780593135204",
            note="the first of these that is a valid ISBN",
        ),
    ]
    isbn10: Annotated[
        str,
        Field(
            cleaning.isbn10,
            example="0593135202",
            note="computed from the ISBN-13",
            is_computed=True,
            takes_isbn13=True,
        ),
    ]
    title: Annotated[
        str,
        Field(
            cleaning.first_text,
            ("title", "title_long"),
            example="Project Hail Mary",
            note="the first of these that is not empty",
        ),
    ]
    title_long: Annotated[str, Field(cleaning.text, example="Project Hail Mary: A Novel")]
    authors: Annotated[
        list[str], Field(cleaning.names, note="different spellings of one author count once", is_column=False)
    ]
    publisher: Annotated[str, Field(cleaning.text, example="Ballantine Books")]
    language: Annotated[str, Field(cleaning.text, example="en")]
    binding: Annotated[str, Field(cleaning.text, example="Hardcover")]
    edition: Annotated[str, Field(cleaning.text)]
    pages: Annotated[int | None, Field(cleaning.pages, example=476, note="the number in it, when it is plausible")]
    date_published: Annotated[
        date | None, Field(cleaning.day_published, example="2021-05-04", note="the part of it that is plausible")
    ]
    date_precision: Annotated[
        DatePrecision, Field(cleaning.date_precision, ("date_published",), example="day", is_part=True)
    ]
    dewey_decimal: Annotated[list[str], Field(cleaning.texts, example=["813.6"], note="without duplicates")]
    subjects: Annotated[list[str], Field(cleaning.texts, example=["Science fiction"], note="without duplicates")]
    msrp: Annotated[
        Decimal | None, Field(cleaning.price, example="28.99", note="the amount in it; 0 is taken as unknown")
    ]
    image: Annotated[
        str,
        Field(
            cleaning.link,
            example="https://images.isbndb.com/covers/52/04/9780593135204.jpg",
            note="when it is a web address",
        ),
    ]
    dimensions: Annotated[str, Field(cleaning.text)]
    synopsis: Annotated[str, Field(cleaning.prose, note=_PROSE, is_long=True)]
    overview: Annotated[str, Field(cleaning.prose, note=_PROSE, is_long=True)]
    excerpt: Annotated[str, Field(cleaning.prose, note=_PROSE, is_long=True)]
    other_isbns: Annotated[
        list[str],
        Field(cleaning.isbns, example=["9780593135211"], note="the valid ones, as ISBN-13s", takes_isbn13=True),
    ]
    raw: str
    """The book's own JSON as ISBNdb sent it, changed only where PostgreSQL cannot store it."""
    content_hash: UUID
    """The same as long as ISBNdb sends the same and it is decoded to the same; see `decoding._content_hash`."""


def _entries() -> Iterator[tuple[str, Field]]:
    for name, hint in get_type_hints(Book, include_extras=True).items():
        for field in getattr(hint, "__metadata__", ()):
            yield name, field if field.sent or field.is_computed else replace(field, sent=(name,))


FIELDS = dict(_entries())
"""The entries of Book by name, in its order."""

SHOWN = list(FIELDS)
SHOWN.insert(SHOWN.index("authors"), "work")
"""The fields of an edition that people and API clients see. The work is not a field of a book: storing finds it."""

COLUMNS = (*(name for name, field in FIELDS.items() if field.is_column), "raw", "content_hash")
"""The columns of Edition that hold the field of Book with the same name."""

LONG_COLUMNS = (*(name for name, field in FIELDS.items() if field.is_long), "raw")
"""The columns that lists of books leave out."""

PARTS = {name for name, field in FIELDS.items() if field.is_part}
"""The fields that another field explains to people."""
