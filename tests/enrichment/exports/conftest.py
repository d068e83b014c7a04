"""A book with everything, in the database and out of it."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from enrichment.models import Author, Edition, EditionAuthor, Work
from enrichment.selectors.books import get_edition

ISBN = "9780593135204"
AT = datetime(2026, 5, 1, 10, tzinfo=UTC)
NAMES = ("Andy Weir", "Porter, Ray")


def unsaved(isbn13: str = ISBN, names: tuple[str, ...] = NAMES, **values: Any) -> Edition:
    """A book that no database has seen, with what an export reads."""
    given = {
        "isbn10": "0593135202",
        "title": "Project Hail Mary",
        "title_long": "Project Hail Mary: A Novel",
        "publisher": "Ballantine Books",
        "language": "en_US",
        "binding": "Hardcover",
        "edition": "1st",
        "pages": 476,
        "date_published": date(2021, 5, 4),
        "date_precision": "day",
        "dewey_decimal": ["813.6"],
        "subjects": ["Science fiction", "Astronauts"],
        "msrp": Decimal("28.99"),
        "image": "https://images.isbndb.com/covers/52/04/9780593135204.jpg",
        "dimensions": "Height: 9.5 inches",
        "synopsis": "A lone <b>astronaut</b> must save the earth&hellip;<br/>Or\nnot.",
        "other_isbns": ["9780593135211"],
        "raw": {},
        "content_hash": uuid4(),
        **dict.fromkeys(["synced_at", "created_at", "updated_at"], AT),
        **values,
    }
    edition = Edition(isbn13=isbn13, work=Work(id=1, title="Project Hail Mary"), **given)
    links = [
        EditionAuthor(edition=edition, position=position, author=Author(id=position, name=name))
        for position, name in enumerate(names, start=1)
    ]
    edition._prefetched_objects_cache = {"author_links": links}  # type: ignore[attr-defined]
    return edition


def stored(isbn13: str = ISBN, names: tuple[str, ...] = NAMES, **values: Any) -> Edition:
    """The same book, stored, and read as exports do."""
    edition = unsaved(isbn13, names, **values)
    keys: Any = {"title_key": "project hail mary", "author_key": "andy weir"}
    edition.work, _ = Work.objects.get_or_create(title="Project Hail Mary", **keys)
    edition.save(force_insert=True)
    for position, name in enumerate(names, start=1):
        author, _ = Author.objects.get_or_create(name=name, name_key=name.lower())
        EditionAuthor.objects.create(edition=edition, author=author, position=position)
    found = get_edition(isbn13)
    assert found
    return found


@pytest.fixture
def book(db: None) -> Edition:
    return stored()
