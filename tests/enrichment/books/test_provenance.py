"""The explanation of where a field comes from matches what decoding does."""

import json
from typing import Any

import pytest

from enrichment.books.decoding import decode_books
from enrichment.books.fields import COLUMNS, Book
from enrichment.books.provenance import ORIGINS

SENT = {
    "isbn13": "9780441172719",
    "isbn": "0441172717",
    "isbn10": "0441172717",
    "title": "Dune",
    "title_long": "Dune: a novel",
    "authors": ["Frank Herbert"],
    "publisher": "Ace",
    "language": "en",
    "binding": "Paperback",
    "edition": "2nd",
    "pages": 535,
    "date_published": "1990-09",
    "dewey_decimal": ["813.54"],
    "subjects": ["Science fiction"],
    "msrp": "8.99",
    "image": "https://images.isbndb.com/dune.jpg",
    "dimensions": "1 x 2 x 3",
    "synopsis": "Sand.",
    "overview": "More sand.",
    "excerpt": "A beginning is",
    "other_isbns": ["9780804429573"],
}


def decoded(content: dict[str, Any]) -> Book:
    return decode_books(json.dumps({"data": [content]}).encode(), key="data").books[0]


def test_every_stored_field_has_an_origin() -> None:
    assert set(ORIGINS) == {*COLUMNS, "authors", "work"} - {"raw", "content_hash", "date_precision"}


@pytest.mark.parametrize("name", [name for name in ORIGINS if name != "work"])
def test_a_field_depends_on_the_named_isbndb_fields_only(name: str) -> None:
    named = {field: SENT[field] for field in ORIGINS[name].sent}
    value = getattr(decoded({"isbn13": SENT["isbn13"]} | named), name)
    assert value
    assert value == getattr(decoded(SENT), name)
    for field in named:
        rest = {other: sent for other, sent in named.items() if other == field}
        if name not in {"isbn13", "title"}:
            assert getattr(decoded({"isbn13": SENT["isbn13"]} | rest), name) == value
