"""The registry of a book's fields, and what derives from it."""

import json

import pytest

from enrichment.books import decoding
from enrichment.books.decoding import decode_books
from enrichment.books.fields import COLUMNS, FIELDS, LONG_COLUMNS, SHOWN, Book
from enrichment.models import Edition
from enrichment.serializers.books import EditionSerializer

DUNE, EMMA = "9780441172719", "9780804429573"


def decode(*books: dict[str, object]) -> list[Book]:
    return decode_books(json.dumps({"data": books}).encode(), key="data").books


def test_every_column_of_an_edition_is_a_field_of_a_book_or_kept_by_storage() -> None:
    by_storage = {"work", "synced_at", "created_at", "updated_at", "named_at"}
    assert {column.name for column in Edition._meta.concrete_fields} == {*COLUMNS} | by_storage
    assert {*FIELDS} - {*COLUMNS} == {"authors"}
    assert {*LONG_COLUMNS} < {*COLUMNS}
    assert {*Book.__struct_fields__} == {*COLUMNS, "authors"}


def test_the_api_shows_every_field() -> None:
    assert {*SHOWN} < {*EditionSerializer().fields}


def test_a_changed_rule_changes_the_hash_of_the_books_that_come_out_differently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[dict[str, object]] = [{"isbn13": DUNE, "pages": 535}, {"isbn13": EMMA}]
    before = decode(*sent)
    rules = [(name, *rest, rule) for name, *rest, rule in decoding._PLAIN_RULES if name != "pages"]
    monkeypatch.setattr(decoding, "_PLAIN_RULES", [*rules, ("pages", "pages", lambda pages: pages and pages + 1)])
    after = decode(*sent)
    assert [book.pages for book in after] == [536, None]
    assert [old.content_hash == new.content_hash for old, new in zip(before, after, strict=True)] == [False, True]


def test_a_new_field_changes_the_hash_of_every_book() -> None:
    values = {"title": "Dune", "title_long": "", "authors": []}
    assert decoding._content_hash({}, values) != decoding._content_hash({}, {**values, "weight": None})


@pytest.mark.parametrize("function", ["name_key", "title_key"])
def test_a_changed_key_changes_the_hash(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    [before] = decode({"isbn13": DUNE, "title": "Dune", "authors": ["Frank Herbert"]})
    monkeypatch.setattr(decoding, function, lambda text, *_: text.upper())
    [after] = decode({"isbn13": DUNE, "title": "Dune", "authors": ["Frank Herbert"]})
    assert before.content_hash != after.content_hash
