"""ISBNdb's side: its OpenAPI file, and its books in the sandbox."""

import json
from pathlib import Path
from typing import Any

from alexandria.development.sandbox import answers, catalogue

OPENAPI = Path(__file__).parent / "files" / "isbndb-openapi.json"
"""The paths that Alexandria serves, from the file that ISBNdb publishes. `info` in it says what was left out."""


def as_answered() -> dict[str, Any]:
    """ISBNdb's file for our paths, with what its answers are in practice.

    Any operation can fail with an ErrorResponse; the fields of a book are untidy; and of the lists in an answer,
    only those of an author have no `total` at times.
    """
    file: dict[str, Any] = json.loads(OPENAPI.read_text())
    schemas = file["components"]["schemas"]
    schemas["Book"] = {"type": "object", "required": schemas["Book"]["required"]}
    schemas["AuthorDetailsResponse"]["required"].remove("total")
    error = {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}
    for path, operations in list(file["paths"].items()):
        for operation in operations.values():
            operation["responses"]["default"] = {"description": "", "content": {"application/json": error}}
        file["paths"][f"/isbndb{path}"] = file["paths"].pop(path)
    file["servers"] = [{"url": "/"}]
    return file


def book_of(isbn: str) -> dict[str, Any]:
    """The book as the sandbox sends it. It must know the ISBN."""
    book = catalogue.find(isbn)
    assert book is not None
    return answers.book_json(book)
