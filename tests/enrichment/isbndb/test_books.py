"""GET /isbndb/book/{isbn} and POST /isbndb/books: from the store where it is fresh, otherwise from ISBNdb."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.test import Client

from alexandria.development.sandbox.server import Sandbox
from enrichment.api.isbndb import parameters
from enrichment.books.storage import StoreError, StoreResult
from enrichment.models import Edition
from quota.models import Call
from tests.enrichment.isbndb.contract import book_of
from tests.fixtures import balance, known_isbns, unknown_isbns

KNOWN = known_isbns(40)
GIVE = "isbns: Give a list of 1 to 1,000 ISBNs. "
NONE = GIVE + 'There is none. Send {"isbns": ["9780593135204"]} or isbns=9780593135204.'
UNKNOWN = unknown_isbns(1)[0]


def sent(isbn: str) -> dict[str, Any]:
    """The book as ISBNdb sends it, without the link that dies after two hours."""
    return book_of(isbn) | {"image_original": None}


def origin(response: Any) -> tuple[int, str, str]:
    """Its status, whether the store had it, and the calls spent."""
    return response.status_code, response.headers["X-Cache"], response.headers["X-Api-Calls"]


def post(isbndb: Client, isbns: Any) -> Any:
    return isbndb.post("/isbndb/books", {"isbns": isbns}, content_type="application/json")


def test_a_book_comes_from_isbndb_once_and_then_from_the_store_as_isbndb_sent_it(
    isbndb: Client, sandbox: Sandbox
) -> None:
    for place in ("miss", "hit"):
        response = isbndb.get(f"/isbndb/book/{KNOWN[0]}?with_prices=0")
        assert origin(response) == (200, place, "1" if place == "miss" else "0")
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers.get("RateLimit", "").startswith('"daily";r=12999;' if place == "miss" else "")
        assert response.json() == {"book": sent(KNOWN[0])}
    Edition.objects.update(synced_at=F("synced_at") - timedelta(days=1000))
    assert origin(isbndb.get(f"/isbndb/book/{Edition.objects.get().isbn10}")) == (200, "miss", "1")
    assert {(call.consumer.slug, call.operation) for call in Call.objects.all()} == {("reader", "isbndb-book")}
    assert balance(sandbox) == (2, 2)


def test_a_book_without_original_image_gets_no_such_member(isbndb: Client, sandbox: Sandbox) -> None:
    isbndb.get(f"/isbndb/book/{KNOWN[0]}")
    edition = Edition.objects.get()
    del edition.raw["image_original"]
    edition.save(update_fields=["raw"])
    assert "image_original" not in isbndb.get(f"/isbndb/book/{KNOWN[0]}").json()["book"]


def test_an_unknown_isbn_is_not_found_and_remembered(isbndb: Client, sandbox: Sandbox) -> None:
    for place in ("miss", "hit"):
        response = isbndb.get(f"/isbndb/book/{UNKNOWN}")
        assert origin(response) == (404, place, "1" if place == "miss" else "0")
        said = f"Not Found. ISBNdb does not know {UNKNOWN}."
        assert response.json() == {"message": "Not Found", "error_message": said}
    assert balance(sandbox) == (1, 1)


def test_what_is_no_isbn_is_not_found_and_nothing_is_sent(isbndb: Client, sandbox: Sandbox) -> None:
    for wrong in ("9780593135205", "nonsense", "..%2Fkey", "%00"):
        response = isbndb.get(f"/isbndb/book/{wrong}")
        assert (response.status_code, response.json()["message"]) == (404, "Not Found")
    assert sandbox.requests == []


def test_a_batch_in_a_body_that_is_far_too_long_is_refused_before_it_is_parsed(isbndb: Client, monkeypatch) -> None:
    monkeypatch.setattr(parameters, "json", None)
    monkeypatch.setattr(parameters, "QueryDict", None)
    for body, kind in (
        (b"[" * 300_000, "application/json"),
        (b"isbns=1&" * 40_000, "application/x-www-form-urlencoded"),
    ):
        response = isbndb.post("/isbndb/books", body, content_type=kind)
        assert (response.status_code, response.json()["error_message"]) == (
            400,
            f"Bad Request. {GIVE}The body has more than 256 kB.",
        )


def test_a_batch_has_the_known_books_in_the_order_of_the_request(isbndb: Client, sandbox: Sandbox) -> None:
    isbndb.get(f"/isbndb/book/{KNOWN[2]}")
    hyphens = f"{KNOWN[1][:3]}-{KNOWN[1][3:]}"
    wanted = [int(KNOWN[3]), KNOWN[2], "nonsense", UNKNOWN, hyphens, KNOWN[2]]
    for place in ("miss", "hit"):
        response = post(isbndb, wanted)
        assert origin(response) == (200, place, "1" if place == "miss" else "0")
        body = {"total": 3, "requested": 6, "data": [sent(KNOWN[3]), sent(KNOWN[2]), sent(KNOWN[1])]}
        assert response.json() == body
    assert sandbox.requests[-1]["asked"] == 3, "the fresh one is not asked for"
    assert Call.objects.latest("pk").operation == "isbndb-books"
    assert balance(sandbox) == (2, 2)


def test_a_search_for_an_isbn_alone_comes_from_the_store_too(isbndb: Client, sandbox: Sandbox) -> None:
    isbn10 = book_of(KNOWN[0])["isbn10"]
    found = {"data": [sent(KNOWN[0])], "total": 1, "page": 1, "page_size": 20}
    for query, place in ((f"isbn13={KNOWN[0]}", "miss"), (f"isbn={isbn10}&publishedFrom=&pageSize=20", "hit")):
        response = isbndb.get(f"/isbndb/search/books?{query}")
        assert (origin(response)[:2], response.json()) == ((200, place), found)
    second = {"data": [], "total": 1, "page": 2, "page_size": 5}
    assert isbndb.get(f"/isbndb/search/books?isbn={isbn10}&page=2&pageSize=5").json() == second
    nothing = {"data": [], "total": 0, "page": 1, "page_size": 20}
    assert isbndb.get(f"/isbndb/search/books?isbn={UNKNOWN}").json() == nothing
    assert {request["path"] for request in sandbox.requests} == {"/books"}
    assert isbndb.get(f"/isbndb/search/books?isbn={isbn10}&author=x").headers["X-Cache"] == "miss"
    assert balance(sandbox) == (3, 3)


def test_the_store_answers_any_number_of_books_with_five_queries(
    isbndb: Client, sandbox: Sandbox, django_assert_max_num_queries
) -> None:
    post(isbndb, KNOWN)
    for isbns in (KNOWN[:1], KNOWN):
        with django_assert_max_num_queries(5):
            response = post(isbndb, isbns)
        assert [book["isbn13"] for book in response.json()["data"]] == isbns


def test_a_batch_of_nothing_that_isbndb_can_know_is_empty(isbndb: Client, sandbox: Sandbox) -> None:
    response = post(isbndb, ["nonsense", None, True, 9.5, {}])
    assert (origin(response), response.json()) == ((200, "hit", "0"), {"total": 0, "requested": 5, "data": []})


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ('{"isbns": ["ONE", "TWO"]}', "application/json"),
        ('{"isbns": {"0": "ONE", "7": "TWO"}}', "application/json; charset=utf-8"),
        (' {"isbns": ["ONE", "TWO"]}', "application/x-www-form-urlencoded"),
        ("isbns=ONE,TWO", "application/x-www-form-urlencoded"),
        ("isbns=ONE&isbns=TWO", "application/x-www-form-urlencoded"),
        ("isbns[]=ONE&isbns[]=TWO", "application/x-www-form-urlencoded"),
        ("isbns%5B0%5D=ONE&isbns%5B1%5D=TWO", "application/x-www-form-urlencoded"),
    ],
)
def test_a_batch_is_json_or_a_form(isbndb: Client, sandbox: Sandbox, body: str, content_type: str) -> None:
    body = body.replace("ONE", KNOWN[0]).replace("TWO", KNOWN[1])
    response = isbndb.post("/isbndb/books", body, content_type=content_type)
    assert response.status_code == 200, response.content
    assert [book["isbn13"] for book in response.json()["data"]] == KNOWN[:2]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", NONE),
        ("{", "isbns: The body is neither JSON nor a form."),
        ('{"isbns": ' + 100_000 * "[", "isbns: The body is neither JSON nor a form."),
        ('["9780593135204"]', NONE),
        ('{"isbns": []}', NONE),
        (json.dumps({"isbns": ["1"] * 1001}), f"{GIVE}There are 1,001."),
        (json.dumps({"isbns": [" ".join(known_isbns(11)), *known_isbns(1001)[11:]]}), f"{GIVE}There are 1,001."),
        ('{"isbns": [' + 5000 * "9" + "]}", "isbns: The body is neither JSON nor a form."),
    ],
)
def test_a_batch_that_is_not_understood_is_a_bad_request(
    isbndb: Client, sandbox: Sandbox, body: str, said: str
) -> None:
    response = isbndb.post("/isbndb/books", body, content_type="application/json")
    assert (response.status_code, response.json()["message"]) == (400, "Bad Request")
    assert response.json()["error_message"] == f"Bad Request. {said}"
    assert sandbox.requests == []


def test_a_form_with_too_many_fields_and_a_long_body_are_refused(isbndb: Client, sandbox: Sandbox) -> None:
    form = "application/x-www-form-urlencoded"
    assert isbndb.post("/isbndb/books", "&".join(["isbns=1"] * 1001), content_type=form).status_code == 400
    response = isbndb.post("/isbndb/books", " " * (4 * 1024 * 1024 + 1), content_type=form)
    assert (response.status_code, "4,194,304 bytes" in response.json()["error_message"]) == (413, True)


def test_a_book_that_cannot_be_stored_is_a_failure_and_not_unknown(
    isbndb: Client, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = StoreResult(errors=[StoreError(KNOWN[0], "index row size exceeds the maximum")])
    monkeypatch.setattr("enrichment.services.enrich.store_books", lambda _: refused)
    response = isbndb.get(f"/isbndb/book/{KNOWN[0]}")
    assert (response.status_code, response.headers["X-Api-Calls"]) == (502, "1")
    assert "could not be stored" in response.json()["error_message"]
    assert post(isbndb, [KNOWN[0]]).json() == {"total": 0, "requested": 1, "data": []}
