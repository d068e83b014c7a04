"""A stored book as a row of a spreadsheet, and as a line of JSON. Both have what `GET /api/books/{isbn}` shows."""

from typing import Any

import msgspec

from alexandria.common.exports import without_formula
from enrichment.models import Edition
from enrichment.serializers.books import EditionSerializer

_SERIALIZER = EditionSerializer()
_WORK_COLUMNS = ("work_id", "work_title")
SEPARATOR = "; "
"""Between the values of a list in one cell."""


def _columns() -> list[str]:
    columns: list[str] = []
    for name in EditionSerializer.Meta.fields:
        columns += _WORK_COLUMNS if name == "work" else [name]
    return columns


COLUMNS = _columns()
"""The columns of a CSV file of books."""


def cells(edition: Edition) -> list[str]:
    """The values of COLUMNS, safe in a spreadsheet. A list is one cell, and what is unknown is an empty one.

    The edition comes with its work, its authors in `author_links`, and its long texts, as from `get_edition`.
    """
    values: list[str] = []
    for name, value in _shown(edition).items():
        if name == "work":
            values += [str(value["id"]), value["title"]]
        elif name == "authors":
            values.append(SEPARATOR.join(author["name"] for author in value))
        elif isinstance(value, list):
            values.append(SEPARATOR.join(value))
        else:
            values.append("" if value is None else str(value))
    return [without_formula(value) for value in values]


def ndjson(edition: Edition) -> bytes:
    """The book as a line of newline-delimited JSON: what `GET /api/books/{isbn}` shows. It takes what `cells` takes."""
    return msgspec.json.encode(_shown(edition)) + b"\n"


def _shown(edition: Edition) -> dict[str, Any]:
    return _SERIALIZER.to_representation(edition)
