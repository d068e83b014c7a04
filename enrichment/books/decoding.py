"""Decodes ISBNdb's answers into books.

ISBNdb's OpenAPI file (schema Book) describes the fields, but real answers are untidy: numbers and dates as prose, null
lists, one text instead of a list, characters that PostgreSQL cannot store. A field that makes no sense is left empty. A
book is rejected only when it has no valid ISBN or is not an object. A bad book never affects the others.
"""

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Literal
from uuid import UUID

import msgspec

from enrichment.books import cleaning
from enrichment.books.fields import FIELDS, Book
from enrichment.books.match_keys import name_key, title_key

_ISBN13 = FIELDS["isbn13"]
_PLAIN = {name: field for name, field in FIELDS.items() if len(field.sent) == 1 and not field.takes_isbn13}
_OTHERS = [(name, field) for name, field in FIELDS.items() if name not in {"isbn13", *_PLAIN}]
# Unpacked in advance, for speed.
_PLAIN_RULES = [(name, field.sent[0], field.clean) for name, field in _PLAIN.items()]
_MAX_DIGITS = 30
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="sorted").encode


class BadBook(msgspec.Struct, frozen=True):
    """A rejected book: its ISBN as ISBNdb sent it, if any, and the reason."""

    isbn: str | None
    error: str


class Answer(msgspec.Struct, frozen=True):
    """The contents of an answer. When two books have one ISBN, the later one is kept.

    `items`: the number of books that ISBNdb sent, good or bad. `total`: ISBNdb's own count over all pages, if it sent
    one.
    """

    books: list[Book]
    bad: list[BadBook]
    total: int | None
    items: int

    def missing(self, isbns: Iterable[str]) -> list[str]:
        """Those of the ISBN-13s that are not among the books."""
        found = {book.isbn13 for book in self.books}
        return [isbn for isbn in isbns if isbn not in found]


class UndecodableAnswer(Exception):
    """The answer as a whole is not what ISBNdb documents: for example HTML, a part of an answer, an error object."""


def decode_books(body: bytes, *, key: Literal["data", "books"]) -> Answer:
    """Decodes the books in the list `key` of an answer.

    Raises UndecodableAnswer when the answer is not a JSON object with such a list.
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


def members_of(body: bytes) -> dict[str, msgspec.Raw]:
    """The members of an answer, as ISBNdb sent them. Raises UndecodableAnswer when it is not a JSON object."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        try:
            return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except ValueError:
            return msgspec.json.decode(_repaired(body), type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError) as error:
        raise UndecodableAnswer(str(error)) from error


def _envelope(body: bytes, key: str) -> tuple[list[msgspec.Raw], int | None]:
    members = members_of(body)
    try:
        items = msgspec.json.decode(members[key], type=list[msgspec.Raw])
        return items, cleaning.whole_number(msgspec.json.decode(members.get("total", b"null")))
    except (ValueError, RecursionError, KeyError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UndecodableAnswer(reason) from error


def _decode_book(sent: bytes) -> Book | BadBook:
    try:
        if rb"\u0000" in sent:
            sent = _repaired(sent)
        try:
            content = _decode(sent)
        except ValueError:
            sent = _repaired(sent)
            content = _decode(sent)
        if not isinstance(content, dict):
            return BadBook(isbn=None, error="not an object")
        return _book(content, sent.decode())
    except (ValueError, RecursionError) as error:
        return BadBook(isbn=None, error=f"not understood: {error}")


def _book(content: dict[str, object], raw: str) -> Book | BadBook:
    isbn13 = _ISBN13.value(content)
    if isbn13 is None:
        given = cleaning.first_text(*map(content.get, _ISBN13.sent))
        return BadBook(isbn=given or None, error="no valid ISBN")
    get = content.get
    values: dict[str, Any] = {name: clean(get(sent)) for name, sent, clean in _PLAIN_RULES}
    for name, field in _OTHERS:
        values[name] = field.value(content, isbn13)
    return Book(isbn13=isbn13, **values, raw=raw, content_hash=_content_hash(content, values))


def _content_hash(content: dict[str, object], values: dict[str, Any]) -> UUID:
    """A hash of everything that is stored of a book. An edition is written again when its hash differs.

    It covers what ISBNdb sent, except `image_original`, whose link is new in every answer. It also covers the decoded
    fields and the keys of the work and the authors: after a rule has changed or a field is new, the next sync writes
    exactly the editions that come out differently.
    """
    content.pop("image_original", None)
    keys = [title_key(values["title"], values["title_long"]), *map(name_key, values["authors"])]
    return UUID(bytes=blake2b(_encode((content, values, keys)), digest_size=16).digest())


def _repaired(sent: bytes) -> bytes:
    """The same JSON without what JSON or PostgreSQL forbids: NUL, lone surrogates, NaN, and too large numbers.

    NaN and infinity become null; a very long whole number becomes a text.
    Raises ValueError or RecursionError when even a lenient parser cannot read it.
    """
    lenient = json.loads(
        sent.decode("utf-8", "replace"),
        strict=False,
        parse_int=lambda digits: int(digits) if len(digits) < _MAX_DIGITS else digits,
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
