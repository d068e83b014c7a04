import json

import pytest

from alexandria.development.sandbox import answers, catalogue
from enrichment.books.decoding import decode_books
from enrichment.books.storage import store_books
from tests.fixtures import (
    api,
    api_without_key_check,
    at,
    consumer,
    key,
    late_requests,
    no_waits,
    one_at_a_time,
    plenty_left,
    sandbox,
    set_clock,
)

__all__ = [
    "api",
    "api_without_key_check",
    "at",
    "consumer",
    "key",
    "late_requests",
    "no_waits",
    "one_at_a_time",
    "plenty_left",
    "sandbox",
    "set_clock",
]


@pytest.fixture
def real_books_stored(db: None) -> None:
    """The sandbox's 600 real books are stored."""
    real = catalogue.real_books()
    body = json.dumps({"books": [answers.book_json(book) for book in real.values()]}).encode()
    assert store_books(decode_books(body, key="books").books).created == len(real)
