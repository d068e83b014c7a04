"""ISBNdb's listings and searches under /isbndb/: passed on as they are, paid by the caller, and stored."""

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import pytest
from django.db import OperationalError
from django.test import Client

from alexandria.development.sandbox import catalogue
from alexandria.development.sandbox.server import Sandbox
from enrichment.models import AuthorMiss, Edition
from quota.models import Call
from tests.enrichment.isbndb.contract import book_of
from tests.fixtures import balance, known_isbns

UNKNOWN_AUTHOR = catalogue.UNKNOWN_AUTHOR
DATES = "publishedFrom=2001&publishedTo=2020-12"


def stored() -> set[str]:
    return set(Edition.objects.values_list("isbn13", flat=True))


def isbns_of(books: list[dict[str, Any]]) -> set[str]:
    return {book["isbn13"] for book in books}


@pytest.mark.parametrize(
    ("path", "list_name", "operation"),
    [
        (f"/author/Agatha%20Christie?page=2&pageSize=5&language=en&{DATES}", "books", "isbndb-author"),
        ("/books/the%20sea?column=title&shouldMatchAll=1&year=2020&edition=2", "books", "isbndb-query"),
        ("/publisher/Ace?pageSize=3&language=en", "books", "isbndb-publisher"),
        ("/subject/Science%20Fiction?pageSize=3", "books", "isbndb-subject"),
        ("/search/books?text=sea&author=Agatha+Christie&pageSize=7", "data", "isbndb-search"),
    ],
)
def test_a_listing_is_passed_on_both_ways_and_stored(
    isbndb: Client, sandbox: Sandbox, path: str, list_name: str, operation: str
) -> None:
    response = isbndb.get(f"/isbndb{path}")
    assert response.status_code == 200, response.content
    assert (response.headers["X-Cache"], response.headers["X-Api-Calls"]) == ("miss", "1")
    [request] = sandbox.requests
    asked, _, query = path.partition("?")
    assert (request["path"], parse_qs(request["query"])) == (asked, parse_qs(query))
    assert isbns_of(response.json()[list_name]) == stored() != set()
    [call] = Call.objects.all()
    assert (call.consumer.slug, call.operation, call.isbns_found) == ("reader", operation, len(stored()))
    assert balance(sandbox) == (1, 1)


def test_the_books_of_a_query_have_the_name_of_isbndbs_file_and_of_its_answers(
    isbndb: Client, sandbox: Sandbox
) -> None:
    body = isbndb.get("/isbndb/books/the%20sea").json()
    assert body["books"] == body["data"] != []
    assert set(body) == {"books", "data", "total"}


@pytest.mark.parametrize("kind", ["author", "books", "publisher", "subject"])
def test_a_name_with_any_characters_is_one_part_of_the_path(isbndb: Client, sandbox: Sandbox, kind: str) -> None:
    name = "AC/DC & Sons, 100% “x”?"
    response = isbndb.get(f"/isbndb/{kind}/{quote(name, safe='')}")
    assert response.status_code == 200
    [request] = sandbox.requests
    assert (request["path"].count("/"), unquote(request["path"])) == (2, f"/{kind}/{name}")


def test_a_bad_book_is_passed_on_and_does_not_cost_the_others(isbndb: Client, sandbox: Sandbox) -> None:
    good = [book_of(isbn) for isbn in known_isbns(2)]
    answer = {"author": "A", "books": [good[0], {"isbn": "nonsense"}, "no object", good[1]], "new_member": [1.0]}
    sandbox.add_fault("garbage", body=answer)
    assert isbndb.get("/isbndb/author/A").json() == answer
    assert stored() == isbns_of(good)


def test_a_page_that_cannot_be_stored_now_is_answered_because_it_is_paid_for(
    isbndb: Client, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(books: object) -> None:
        raise OperationalError("connection is closed")

    monkeypatch.setattr("enrichment.services.isbndb.store_books", gone)
    monkeypatch.setattr("enrichment.books.aside.PATIENCE", timedelta())
    response = isbndb.get("/isbndb/author/Andy%20Weir")
    assert (response.status_code, response.json()["name"], stored()) == (200, "Andy Weir", set())
    assert balance(sandbox) == (1, 1)


@pytest.mark.usefixtures("plenty_left")
def test_an_unknown_author_is_remembered_unless_a_filter_can_be_the_reason(isbndb: Client, sandbox: Sandbox) -> None:
    path = f"/isbndb/author/{quote(UNKNOWN_AUTHOR)}"
    for filters in ("?language=en", "?page=2"):
        assert isbndb.get(path + filters).status_code == 404
        assert not AuthorMiss.objects.exists()
    for place in ("miss", "hit"):
        response = isbndb.get(path)
        assert (response.status_code, response.headers["X-Cache"]) == (404, place)
        assert response.json()["message"] == "Not Found"
    assert AuthorMiss.objects.get().name == UNKNOWN_AUTHOR
    assert balance(sandbox) == (3, 3)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/author/Andy%20Weir?page=0", "page: Ensure this value is greater than or equal to 1."),
        ("/author/Andy%20Weir?page=x", "page: A valid integer is required."),
        ("/author/Andy%20Weir?pageSize=1001", "pageSize: Ensure this value is less than or equal to 1000."),
        ("/author/Andy%20Weir?publishedFrom=01-2020", "publishedFrom: It must be YYYY, YYYY-MM or YYYY-MM-DD."),
        ("/author/" + 151 * "x", "name: Ensure this field has no more than 150 characters."),
        ("/author/..", "name: It must contain a letter or a digit."),
        ("/books/sea?column=isbn", 'column: "isbn" is not one of "title", "author", "date_published", "subjects".'),
        ("/books/sea?year=2020&publishedTo=2021", "year: It cannot be combined with publishedFrom or publishedTo."),
        ("/search/books?page=2", "One of isbn, isbn13, author, text, subject, publisher is required."),
        ("/search/books?isbn=" + 21 * "1", "isbn: Ensure this field has no more than 20 characters."),
    ],
)
def test_a_parameter_that_is_wrong_is_named_and_nothing_is_sent(
    isbndb: Client, sandbox: Sandbox, path: str, said: str
) -> None:
    response = isbndb.get(f"/isbndb{path}")
    assert (response.status_code, response.json()["error_message"]) == (400, f"Bad Request. {said}")
    assert sandbox.requests == []


def test_empty_and_unknown_parameters_are_not_passed_on(isbndb: Client, sandbox: Sandbox) -> None:
    assert isbndb.get("/isbndb/author/Andy%20Weir?page=&language=&beta=1&pageSize=3&name=Other").status_code == 200
    assert (sandbox.requests[0]["path"], sandbox.requests[0]["query"]) == ("/author/Andy%20Weir", "pageSize=3")
