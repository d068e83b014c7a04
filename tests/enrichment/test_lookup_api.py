"""POST /api/books/lookup gives the books of up to 1,000 ISBNs in the order asked, and never spends a call."""

import csv
import io
import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from alexandria.development.sandbox import catalogue
from enrichment.books.fields import LONG_COLUMNS
from enrichment.books.shown import shown_edition
from enrichment.exports.formats import COLUMNS
from enrichment.models import Edition, Miss, QueuedIsbn
from enrichment.models.queue import MAX_ATTEMPTS
from enrichment.selectors.catalogue import find_books
from quota.models import Call, Reservation
from tests.fixtures import NOON, database_moved, known_isbns, problem, unknown_isbns

REAL = catalogue.real_books()
STORED, TWICE = "9780593135204", "9780735211292"
QUEUED, MISSED, NEVER, GAVE_UP, MISSED_AND_QUEUED = unknown_isbns(5)
LOOKUP = "/api/books/lookup"


@pytest.fixture
def api(api_without_key_check: APIClient) -> APIClient:
    """Without the check of API keys: like the rest of the quota, it refuses to work in the test's transaction."""
    return api_without_key_check


@pytest.fixture(autouse=True)
def stored(real_books_stored: None) -> None:
    """The sandbox's 600 real books, and what is known of a few other ISBNs."""
    Miss.objects.create(isbn13=MISSED, asked_at=NOON)
    Miss.objects.create(isbn13=MISSED_AND_QUEUED, asked_at=NOON)
    for isbn, attempts in ((QUEUED, 0), (MISSED_AND_QUEUED, 1), (GAVE_UP, MAX_ATTEMPTS)):
        QueuedIsbn.objects.create(isbn13=isbn, asked_at=NOON, attempts=attempts)


GIVEN = [f"{TWICE} (pbk.)", MISSED, "0-593-13520-2", QUEUED, "439023483", NEVER, int(TWICE), GAVE_UP, MISSED_AND_QUEUED]


def look_up(api: APIClient, isbns: Any = GIVEN, accept: str = "application/json") -> Any:
    response = api.post(LOOKUP, {"isbns": isbns}, format="json", headers={"Accept": accept})
    assert response.status_code == 200, response.content
    return response


def text_of(response: Any) -> str:
    return b"".join(response.streaming_content).decode()


def test_each_isbn_has_its_book_or_why_there_is_none_in_the_order_asked(api: APIClient) -> None:
    body = look_up(api).json()
    books = body.pop("books")
    assert body == {
        "requested": 9,
        "valid": 7,
        "duplicates": 1,
        "by_state": {"stored": 2, "queued": 2, "unknown": 1, "not_asked": 2, "invalid": 1},
        "notes": [],
    }
    asked_at = "2026-05-05T12:00:00Z"
    assert [(item["isbn13"], item["state"], item["asked_at"], item["book"] is None) for item in books] == [
        (TWICE, "stored", None, False),
        (MISSED, "unknown", asked_at, True),
        (STORED, "stored", None, False),
        (QUEUED, "queued", None, True),
        (None, "invalid", None, True),
        (NEVER, "not_asked", None, True),
        (TWICE, "stored", None, False),
        (GAVE_UP, "not_asked", None, True),
        (MISSED_AND_QUEUED, "queued", asked_at, True),
    ]
    assert (books[4]["reason"], books[4]["suggestion"]) == ("wrong length", "0439023483")
    assert [item["input"] for item in books][:2] == [f"{TWICE} (pbk.)", MISSED]
    assert books[0]["book"] == books[6]["book"]
    assert Call.objects.count() == Reservation.objects.count() == 0


def test_a_book_is_the_same_as_at_its_own_address(api: APIClient) -> None:
    """Every real book: two different queries and functions make them."""
    items = look_up(api, list(REAL)).json()["books"]
    books = {item["isbn13"]: item["book"] for item in items}
    assert len(books) == len(REAL)
    for edition in find_books(fields=LONG_COLUMNS):
        assert list(books[edition.isbn13].items()) == list(shown_edition(edition).items())
    assert list(books[STORED].items()) == list(api.get(f"/api/books/{STORED}").json().items())


def test_a_thousand_isbns_are_the_limit_also_for_repeated_ones_in_one_text(api: APIClient) -> None:
    assert look_up(api, [f"{STORED} " * 1000]).json()["duplicates"] == 999
    response = api.post(LOOKUP, {"isbns": [f"{STORED} " * 1001]}, format="json")
    assert "1 to 1,000 ISBNs" in problem(response, 400)["detail"]


def test_a_file_whose_isbns_are_all_lost_is_refused_with_the_reason(api: APIClient) -> None:
    response = api.post(LOOKUP, "Title,ISBN13\nx,9.78E+12\n", content_type="text/csv")
    assert "There is no ISBN in the file. 1 cell of the column 'ISBN13' lost digits" in problem(response, 400)["detail"]


def test_ndjson_has_a_line_for_each_isbn(api: APIClient) -> None:
    response = look_up(api, accept="application/x-ndjson")
    assert response.headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line) for line in text_of(response).splitlines()] == look_up(api).json()["books"]


def test_csv_has_a_row_for_each_isbn_and_no_formula(api: APIClient) -> None:
    Edition.objects.filter(pk=STORED).update(title="=1+1")
    response = look_up(api, accept="text/csv")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(text_of(response), newline="")))
    assert list(rows[0]) == ["input", "state", "reason", "suggestion", "asked_at", *COLUMNS]
    assert [(row["input"], row["state"], row["isbn13"]) for row in rows[1:5]] == [
        (MISSED, "unknown", MISSED),
        ("0-593-13520-2", "stored", STORED),
        (QUEUED, "queued", QUEUED),
        ("439023483", "invalid", ""),
    ]
    assert (rows[2]["title"], rows[2]["authors"], rows[2]["pages"]) == ("'=1+1", "Andy Weir", "476")
    assert rows[1]["asked_at"] == "2026-05-05T12:00:00Z"


def test_the_csv_sent_back_is_the_same_list(api: APIClient) -> None:
    isbns = [*list(REAL)[:50], MISSED, TWICE, "9780441172718", "Dune", "=9.78E+12"]
    answer = look_up(api, isbns).json()
    table = text_of(look_up(api, isbns, accept="text/csv"))
    again = api.post(LOOKUP, table, content_type="text/csv").json()
    assert answer["by_state"]["invalid"] == 3
    assert again.pop("notes") == ["This is an export of Alexandria."]
    assert [(item["isbn13"], item["state"]) for item in again["books"]] == [
        (item["isbn13"], item["state"]) for item in answer["books"]
    ]


def test_the_list_can_be_bare_or_a_file(api: APIClient) -> None:
    bare = api.post(LOOKUP, [STORED], format="json").json()
    as_file = api.post(LOOKUP, f"Title,ISBN13\nx,{STORED}\n", content_type="text/csv").json()
    assert [answer["books"][0]["book"]["isbn13"] for answer in (bare, as_file)] == [STORED, STORED]


@pytest.mark.parametrize("count", [2, 1000])
def test_a_longer_list_needs_no_more_queries(api: APIClient, count: int) -> None:
    isbns = [NEVER, *REAL, *known_isbns(1000)][:count]
    with CaptureQueriesContext(connection) as captured:
        assert look_up(api, isbns).json()["valid"] == count
    assert len(captured) == 4


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "text/csv"])
def test_an_error_is_a_problem_whatever_is_accepted(api: APIClient, accept: str) -> None:
    headers = {"Accept": accept}
    refused = problem(api.post(LOOKUP, {"isbns": [STORED] * 1001}, format="json", headers=headers), 400)
    assert [error["field"] for error in refused["errors"]] == ["isbns"]
    refused = problem(api.post(LOOKUP, {"isbns": [STORED], "source": "x"}, format="json", headers=headers), 400)
    assert [error["field"] for error in refused["errors"]] == ["source"]
    problem(api.get(LOOKUP, headers=headers), 405)
    problem(api.post(LOOKUP, {"isbns": []}, format="json", headers={"Accept": "application/marc"}), 406)


@pytest.mark.django_db(transaction=True)
def test_without_postgresql_the_answer_is_503(api: APIClient) -> None:
    with database_moved(port=1):
        for accept in ("application/json", "text/csv"):
            refused = api.post(LOOKUP, {"isbns": [STORED]}, format="json", headers={"Accept": accept})
            assert problem(refused, 503)["code"] == "database_unavailable"
