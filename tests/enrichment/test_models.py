"""The constraints of the tables: each refuses rows that the services never write."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError

from enrichment.models import Author, Edition, EditionAuthor, Miss, Work

pytestmark = pytest.mark.django_db
NOW = datetime(2025, 1, 1, tzinfo=UTC)


def make_edition(isbn13: str = "9780441172719", **fields: Any) -> Edition:
    work, _ = Work.objects.get_or_create(title_key="dune", author_key="frank herbert", defaults={"title": "Dune"})
    times = {"synced_at": NOW, "created_at": NOW, "updated_at": NOW}
    return Edition.objects.create(isbn13=isbn13, work=work, raw={}, content_hash=UUID(int=0), **times | fields)


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"isbn13": "0441172717"}, "enrichment_edition_isbn13_format"),
        ({"isbn13": "5901234123457"}, "enrichment_edition_isbn13_format"),
        ({"isbn13": "978044117271X"}, "enrichment_edition_isbn13_format"),
        ({"pages": 0}, "enrichment_edition_pages_positive"),
        ({"msrp": 0}, "enrichment_edition_msrp_positive"),
        ({"date_published": date(2023, 1, 1)}, "enrichment_edition_date_has_precision"),
        ({"date_precision": "day"}, "enrichment_edition_date_has_precision"),
        (
            {"date_published": date(2023, 1, 1), "date_precision": "week"},
            "enrichment_edition_date_has_precision",
        ),
    ],
)
def test_an_invalid_edition_is_refused(fields: dict[str, Any], constraint: str) -> None:
    with pytest.raises(IntegrityError, match=constraint):
        make_edition(**fields)


def test_a_title_and_an_author_identify_one_work() -> None:
    make_edition()
    with pytest.raises(IntegrityError, match="enrichment_work_title_and_author_once"):
        Work.objects.create(title="DUNE", title_key="dune", author_key="frank herbert")


def test_a_name_identifies_one_author() -> None:
    Author.objects.create(name="Frank Herbert", name_key="frank herbert")
    with pytest.raises(IntegrityError, match="enrichment_author_name_key_once"):
        Author.objects.create(name="Herbert, Frank", name_key="frank herbert")


@pytest.mark.parametrize(
    ("position", "constraint"), [(1, "enrichment_editionauthor_pkey"), (2, "enrichment_editionauthor_author_once")]
)
def test_an_edition_has_one_author_at_a_position_and_each_author_once(position: int, constraint: str) -> None:
    edition = make_edition()
    first = Author.objects.create(name="Frank Herbert", name_key="frank herbert")
    second = Author.objects.create(name="Brian Herbert", name_key="brian herbert")
    EditionAuthor.objects.create(edition=edition, author=first, position=1)
    with pytest.raises(IntegrityError, match=constraint):
        EditionAuthor.objects.create(edition=edition, author=second if position == 1 else first, position=position)


def test_a_miss_is_an_isbn13() -> None:
    with pytest.raises(IntegrityError, match="enrichment_miss_isbn13_format"):
        Miss.objects.create(isbn13="0441172717", asked_at=NOW)


@pytest.mark.parametrize(("precision", "published"), [("day", "2023-10-01"), ("month", "2023-10"), ("year", "2023")])
def test_the_known_part_of_a_date_is_shown(precision: str, published: str) -> None:
    assert Edition(date_published=date(2023, 10, 1), date_precision=precision).published == published
    assert Edition().published == ""


def test_rows_have_readable_names() -> None:
    edition = make_edition(title="Dune")
    author = Author.objects.create(name="Frank Herbert", name_key="frank herbert")
    link = EditionAuthor.objects.create(edition=edition, author=author, position=1)
    miss = Miss.objects.create(isbn13="9780804429573", asked_at=NOW)
    assert [str(row) for row in (edition, edition.work, author, link, miss)] == [
        "Dune (9780441172719)",
        "Dune",
        "Frank Herbert",
        "9780441172719 #1",
        "9780804429573",
    ]
