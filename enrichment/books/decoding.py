"""ISBNdb's answers, as books.

Written from ../shared/isbndb/openapi.json (schema Book) and from what the feed really holds: numbers and dates as
prose, null lists, one string where a list belongs, characters that PostgreSQL cannot store. A field that makes no
sense is left out; a book is given up only when it has no valid ISBN, or is no object at all; and whatever happens to
one book, the others are kept.
"""

import json
from datetime import date
from decimal import Decimal
from hashlib import blake2b
from typing import Literal
from uuid import UUID

import msgspec

from enrichment.books import cleaning
from enrichment.books.cleaning import DatePrecision
from enrichment.isbn.parsing import to_isbn10

# Counts up when a change here, in fields.py or in keys.py gives other books for the same answer: then the stored
# editions differ from what is decoded, and are written anew when they are next synced.
_VERSION = b"1"
_LONGEST_NUMBER = 30  # digits


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """One book as ISBNdb knows it. A text that it does not give is "", a list []; duplicates in lists are folded."""

    isbn13: str
    isbn10: str
    title: str
    title_long: str
    authors: list[str]
    publisher: str
    language: str
    binding: str
    edition: str
    pages: int | None
    date_published: date | None
    date_precision: DatePrecision
    dewey_decimal: list[str]
    subjects: list[str]
    msrp: Decimal | None
    image: str
    dimensions: str
    synopsis: str
    overview: str
    excerpt: str
    other_isbns: list[str]
    raw: str
    """The book's own JSON as ISBNdb sent it, repaired only where PostgreSQL could not store it."""
    content_hash: UUID
    """The same for the same content: of everything but `image_original`, whose links are new in every answer."""


class BadBook(msgspec.Struct, frozen=True):
    """A book that cannot be kept: the ISBN it gave, if any, and why."""

    isbn: str | None
    error: str


class Answer(msgspec.Struct, frozen=True):
    """What an answer holds. Of two books with one ISBN the later is kept.

    `items`: how many ISBNdb sent, good or bad. `total`: its own count of all pages, if given.
    """

    books: list[Book]
    bad: list[BadBook]
    total: int | None
    items: int


class UndecodableAnswer(Exception):
    """The answer as a whole is not what ISBNdb documents: HTML, cut off, an error object."""


def decode_books(body: bytes, *, key: Literal["data", "books", "book"]) -> Answer:
    """The books of an answer: those in the list `key`, or the one that is the object `book`.

    Raises UndecodableAnswer when the answer is no JSON object, or has no such member.
    """
    items, total = _envelope(body, key)
    books: dict[str, Book] = {}
    bad: list[BadBook] = []
    for item in items:
        decoded = _decode_book(bytes(item))
        if isinstance(decoded, BadBook):
            bad.append(decoded)
        else:
            books[decoded.isbn13] = decoded
    return Answer(books=list(books.values()), bad=bad, total=total, items=len(items))


def _envelope(body: bytes, key: str) -> tuple[list[msgspec.Raw], int | None]:
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        try:
            members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except ValueError:
            members = msgspec.json.decode(_repaired(body), type=dict[str, msgspec.Raw])
        items = [members[key]] if key == "book" else msgspec.json.decode(members[key], type=list[msgspec.Raw])
        return items, cleaning.whole_number(msgspec.json.decode(members.get("total", b"null")))
    except (ValueError, RecursionError, KeyError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UndecodableAnswer(reason) from error


def _decode_book(sent: bytes) -> Book | BadBook:
    try:
        if rb"\u0000" in sent:
            sent = _repaired(sent)
        try:
            content = msgspec.json.decode(sent)
        except ValueError:
            sent = _repaired(sent)
            content = msgspec.json.decode(sent)
        if not isinstance(content, dict):
            return BadBook(isbn=None, error="not an object")
        return _book(content, sent.decode())
    except (ValueError, RecursionError) as error:
        return BadBook(isbn=None, error=f"not understood: {error}")


def _book(content: dict[str, object], raw: str) -> Book | BadBook:
    get = content.get
    given = [get("isbn13"), get("isbn"), get("isbn10")]
    isbn13 = next(filter(None, map(cleaning.isbn, given)), None)
    if isbn13 is None:
        return BadBook(isbn=next(filter(None, map(cleaning.text, given)), None), error="no valid ISBN")
    title_long = cleaning.text(get("title_long"))
    date_published, date_precision = cleaning.publication_date(get("date_published"))
    return Book(
        isbn13=isbn13,
        isbn10=to_isbn10(isbn13) or "",
        title=cleaning.text(get("title")) or title_long,
        title_long=title_long,
        authors=cleaning.names(get("authors")),
        publisher=cleaning.text(get("publisher")),
        language=cleaning.text(get("language")),
        binding=cleaning.text(get("binding")),
        edition=cleaning.text(get("edition")),
        pages=cleaning.pages(get("pages")),
        date_published=date_published,
        date_precision=date_precision,
        dewey_decimal=cleaning.texts(get("dewey_decimal")),
        subjects=cleaning.texts(get("subjects")),
        msrp=cleaning.price(get("msrp")),
        image=cleaning.link(get("image")),
        dimensions=cleaning.text(get("dimensions")),
        synopsis=cleaning.text(get("synopsis")),
        overview=cleaning.text(get("overview")),
        excerpt=cleaning.text(get("excerpt")),
        other_isbns=cleaning.isbns(get("other_isbns"), but=isbn13),
        raw=raw,
        content_hash=_content_hash(content),
    )


def _content_hash(content: dict[str, object]) -> UUID:
    lasting = {name: value for name, value in content.items() if name != "image_original"}
    canonical = msgspec.json.encode(lasting, order="sorted")
    return UUID(bytes=blake2b(canonical, digest_size=16, person=_VERSION).digest())


def _repaired(sent: bytes) -> bytes:
    """The same JSON without what JSON or PostgreSQL does not allow: NUL, lone surrogates, NaN, numbers beyond reach.

    NaN and infinity become null; an endless whole number becomes text.
    Raises ValueError or RecursionError when even a lenient reader cannot make sense of it.
    """
    lenient = json.loads(
        sent.decode("utf-8", "replace"),
        strict=False,
        parse_int=lambda digits: int(digits) if len(digits) < _LONGEST_NUMBER else digits,
    )
    return msgspec.json.encode(_storable(lenient))


def _storable(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    return value
