"""Where each field of a stored edition comes from: what ISBNdb sent for it, and how Alexandria cleaned it."""

import json
from dataclasses import dataclass
from typing import Any

from django.contrib.admin.utils import label_for_field

from enrichment.books.fields import FIELDS, PARTS, SHOWN
from enrichment.models import Edition


@dataclass(frozen=True)
class Origin:
    """`sent`: ISBNdb's names of the fields that it is read from, none when it is computed. `made`: how."""

    sent: tuple[str, ...]
    made: str = ""


_WORK = Origin((), "found by the normalised title, the number of its volume or part, and the first author")

ORIGINS = {
    name: Origin(FIELDS[name].sent, FIELDS[name].note) if name in FIELDS else _WORK
    for name in SHOWN
    if name not in PARTS
}
"""By field of Edition, in the order in which people read them."""


@dataclass(frozen=True)
class Traced:
    """A field of a stored edition, its value, and what ISBNdb sent for it: JSON by ISBNdb's name of the field."""

    name: str
    label: str
    value: Any
    origin: Origin
    sent: dict[str, str]


def trace(edition: Edition) -> list[Traced]:
    """The fields of the edition in the order of ORIGINS. `sent` lacks the fields that ISBNdb did not send."""
    special = {
        "authors": [link.author.name for link in edition.author_links.all()],
        "date_published": edition.published,
    }
    raw: dict[str, Any] = edition.raw
    traced = []
    for name, origin in ORIGINS.items():
        value = special[name] if name in special else getattr(edition, name)
        label = str(label_for_field(name, Edition))
        sent = {field: json.dumps(raw[field], ensure_ascii=False) for field in origin.sent if field in raw}
        traced.append(Traced(name, label, value, origin, sent))
    return traced
