"""GET /api/books/{isbn} shows a stored book by its ISBN in any form, and never spends a call."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from enrichment.models import Author, Edition, EditionAuthor, Miss, Work
from quota.models import Call, Reservation
from tests.fixtures import problem

ISBN = "9780747532699"
SYNCED = datetime(2026, 5, 1, 10, tzinfo=UTC)


@pytest.fixture
def api(api_without_key_check: APIClient) -> APIClient:
    """Without the check of API keys: like the rest of the quota, it refuses to work in the test's transaction."""
    return api_without_key_check


@pytest.fixture(autouse=True)
def stored(db: None) -> Edition:
    work = Work.objects.create(title="A Work", title_key="a work", author_key="zoe")
    edition = Edition.objects.create(
        isbn13=ISBN,
        isbn10="0747532699",
        title="A Work",
        work=work,
        pages=223,
        publisher="Bloomsbury",
        date_published=date(1997, 6, 1),
        date_precision="month",
        raw="{}",
        content_hash=uuid4(),
        synced_at=SYNCED,
        created_at=SYNCED,
        updated_at=SYNCED,
    )
    for position, name in enumerate(["Zoe", "Ann", "Mia"], start=1):
        author = Author.objects.create(name=name, name_key=name.lower())
        EditionAuthor.objects.create(edition=edition, author=author, position=position)
    return edition


def get(api: APIClient, isbn: str, **headers):
    return api.get(f"/api/books/{quote(isbn)}", **headers)


def test_a_stored_book_is_shown_with_its_work_and_its_authors_in_order(api: APIClient, stored: Edition) -> None:
    response = get(api, ISBN)
    assert response.status_code == 200
    body = response.json()
    assert (body["isbn13"], body["isbn10"], body["title"], body["pages"]) == (ISBN, "0747532699", "A Work", 223)
    assert body["work"] == {"id": stored.work_id, "title": "A Work"}
    assert [author["name"] for author in body["authors"]] == ["Zoe", "Ann", "Mia"]
    assert body["synced_at"] == "2026-05-01T10:00:00Z"
    assert "raw" not in body


@pytest.mark.parametrize(
    "form",
    [
        "978-0-7475-3269-9",
        "0747532699",
        "0-7475-3269-9",
        "ISBN 978 0 7475 3269 9",
        "978–0–7475–3269–9",
        "urn:isbn:0747532699",
    ],
)
def test_a_book_is_found_by_its_isbn_in_any_form(api: APIClient, form: str) -> None:
    assert get(api, form).json()["isbn13"] == ISBN


@pytest.mark.parametrize(
    ("precision", "shown"), [("year", "1997"), ("month", "1997-06"), ("day", "1997-06-01"), ("", None)]
)
def test_the_known_part_of_the_date_is_shown(
    api: APIClient, stored: Edition, precision: str, shown: str | None
) -> None:
    Edition.objects.update(date_published=date(1997, 6, 1) if precision else None, date_precision=precision)
    body = get(api, ISBN).json()
    assert (body["date_published"], body["date_precision"]) == (shown, precision)


@pytest.mark.parametrize(
    ("isbn", "says"),
    [
        ("9780441013593", "not stored"),
        ("978-0-441-01359-0", "wrong check digit"),
        ("12345", "wrong length"),
        ("Dune", "not an ISBN"),
        ("9780/441013593", "not an ISBN"),
        ("\0", "not an ISBN"),
    ],
)
def test_an_unknown_and_an_invalid_isbn_have_different_messages(api: APIClient, isbn: str, says: str) -> None:
    response = get(api, isbn)
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    body = json.loads(response.content)
    assert (body["status"], body["title"]) == (404, "Not Found")
    assert says in body["detail"]


def test_a_book_costs_no_call_and_a_fixed_number_of_queries(api: APIClient, stored: Edition) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert get(api, ISBN).status_code == 200
        return len(captured)

    with_three = queries()
    for number in range(20):
        author = Author.objects.create(name=f"Author {number}", name_key=f"author {number}")
        EditionAuthor.objects.create(edition=stored, author=author, position=10 + number)
    assert queries() == with_three <= 5
    get(api, "9780441013593")
    assert not Call.objects.exists()
    assert not Reservation.objects.exists()


def test_an_unchanged_book_is_a_304_without_a_body(api: APIClient, stored: Edition) -> None:
    first = get(api, ISBN)
    etag = first.headers["ETag"]
    assert {"Authorization"} <= {name.strip() for name in first.headers["Vary"].split(",")}
    for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = get(api, "0-7475-3269-9", HTTP_IF_NONE_MATCH=given)
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    assert get(api, ISBN, HTTP_IF_NONE_MATCH='"other"').json() == first.json()
    assert get(api, ISBN, HTTP_IF_NONE_MATCH="nonsense").status_code == 200

    changes: list[dict[str, Any]] = [{"synced_at": SYNCED + timedelta(microseconds=1)}, {"content_hash": uuid4()}]
    for change in changes:
        Edition.objects.update(**change)
        changed = get(api, ISBN, HTTP_IF_NONE_MATCH=etag)
        assert (changed.status_code, changed.headers["ETag"] != etag) == (200, True)
        etag = changed.headers["ETag"]
    assert get(api, "9780441013593", HTTP_IF_NONE_MATCH="*").status_code == 404
    assert get(APIClient(), ISBN, HTTP_IF_NONE_MATCH=etag).status_code == 401


def test_a_book_needs_a_key() -> None:
    assert get(APIClient(), ISBN).status_code == 401


def test_a_book_that_isbndb_did_not_know_says_from_when_it_is_asked_again(api: APIClient) -> None:
    detail = problem(get(api, "0-441-17271-7"), 404)["detail"]
    assert "is not stored. POST it" in detail
    Miss.objects.create(isbn13="9780441172719", asked_at=SYNCED, step=2)
    detail = problem(get(api, "0-441-17271-7"), 404)["detail"]
    assert f"Until {SYNCED + timedelta(days=7):%Y-%m-%d %H:%M} UTC, that needs `refresh`." in detail
