"""Where each field of an edition comes from: which of ISBNdb's fields, and what was made of them.

It says what `decoding._book` does, for people; a test holds the two together.
"""

import json
from dataclasses import dataclass
from typing import Any

from django.contrib.admin.utils import label_for_field

from enrichment.models import Edition


@dataclass(frozen=True)
class Origin:
    """`sent`: ISBNdb's names of the fields that it is read from, none for what is computed; `made`: how."""

    sent: tuple[str, ...]
    made: str = ""


ORIGINS = {
    "isbn13": Origin(("isbn13", "isbn", "isbn10"), "the first of them that is a valid ISBN"),
    "isbn10": Origin((), "computed from the ISBN-13"),
    "title": Origin(("title", "title_long"), "the first of them that is not empty"),
    "title_long": Origin(("title_long",)),
    "authors": Origin(("authors",), "each author once, however differently written"),
    "work": Origin((), "found by the title and the first author, normalised"),
    "publisher": Origin(("publisher",)),
    "date_published": Origin(("date_published",), "as much of it as can be believed"),
    "edition": Origin(("edition",)),
    "binding": Origin(("binding",)),
    "language": Origin(("language",)),
    "pages": Origin(("pages",), "the number in it, if it makes sense"),
    "msrp": Origin(("msrp",), "the amount in it; 0 is taken for unknown"),
    "dimensions": Origin(("dimensions",)),
    "dewey_decimal": Origin(("dewey_decimal",), "duplicates folded"),
    "subjects": Origin(("subjects",), "duplicates folded"),
    "synopsis": Origin(("synopsis",)),
    "overview": Origin(("overview",)),
    "excerpt": Origin(("excerpt",)),
    "image": Origin(("image",), "if it is a web address"),
    "other_isbns": Origin(("other_isbns",), "the valid ones, as ISBN-13s"),
}
"""By field of Edition, in the order in which a person reads them."""


@dataclass(frozen=True)
class Traced:
    """A field of a stored edition, its value, and what ISBNdb sent for it: `sent` is JSON, by ISBNdb's names."""

    name: str
    label: str
    value: Any
    origin: Origin
    sent: dict[str, str]


def trace(edition: Edition) -> list[Traced]:
    """The edition field by field, in the order of ORIGINS. Fields that ISBNdb did not send are not in `sent`."""
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
