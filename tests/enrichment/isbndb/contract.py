"""ISBNdb's side: its OpenAPI file, and its books in the sandbox."""

from pathlib import Path
from typing import Any

from alexandria.development.sandbox import answers, catalogue

OPENAPI = Path(__file__).parent / "files" / "isbndb-openapi.json"
"""The paths that Alexandria serves, from the file that ISBNdb publishes. `info` in it says what was left out."""


def book_of(isbn: str) -> dict[str, Any]:
    """The book as the sandbox sends it. It must know the ISBN."""
    book = catalogue.find(isbn)
    assert book is not None
    return answers.book_json(book)
