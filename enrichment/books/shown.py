"""A book as the API and the exports show it: values that JSON can hold, under the names of its fields."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from alexandria.common.text import as_programs_read
from enrichment.books.fields import SHOWN
from enrichment.models import Edition
from enrichment.models.books import known_part

TIMES = ("synced_at", "created_at", "updated_at")
SHOWN_FIELDS = (*SHOWN, *TIMES)
"""Every field that is shown, in order."""

_OF_OTHER_TABLES: dict[str, Callable[[Edition], object]] = {
    "work": lambda edition: {"id": edition.work.pk, "title": edition.work.title},
    "authors": lambda edition: [
        {"id": link.author.pk, "name": link.author.name} for link in edition.author_links.all()
    ],
}


def shown_edition(edition: Edition, fields: Iterable[str] = SHOWN_FIELDS) -> dict[str, Any]:
    """The edition with these fields, in their order. It reads `work` and `author_links`: prefetch them for a list.

    A serializer of DRF takes ten times as long, and an export has a million books.
    """
    values = {
        name: _OF_OTHER_TABLES[name](edition) if name in _OF_OTHER_TABLES else getattr(edition, name) for name in fields
    }
    return shown_values(values, edition.date_precision)


def shown_values(values: Mapping[str, Any], date_precision: str) -> dict[str, Any]:
    """The same from the values of columns, and of `work` and `authors` as they are shown; all of them, or a part."""
    shown = dict(values)
    if "date_published" in shown:
        shown["date_published"] = known_part(shown["date_published"], date_precision) or None
    if shown.get("msrp") is not None:
        shown["msrp"] = str(shown["msrp"])
    for name in TIMES:
        if name in shown:
            shown[name] = as_programs_read(shown[name])
    return shown
