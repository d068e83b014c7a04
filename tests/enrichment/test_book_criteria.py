"""GET /api/books by ISBN, subject, language, binding, date, work; its orders, and the fields that it shows."""

import base64
import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.db import connection
from rest_framework.test import APIClient

from enrichment.books.decoding import decode_books
from enrichment.books.storage import store_books
from enrichment.models import Edition, Work
from enrichment.selectors.catalogue import Criteria, find_books
from tests.fixtures import problem

BOOKS: list[dict[str, Any]] = [
    {
        "isbn13": "9780441013593",
        "title": "Dune",
        "authors": ["Frank Herbert"],
        "subjects": ["Science Fiction", "Deserts"],
        "language": "en",
        "binding": "Paperback",
        "date_published": "2005-08-02",
        "publisher": "Ace Books",
        "synopsis": "Spice.",
        "msrp": "10.99",
    },
    {
        "isbn13": "9780441172719",
        "title": "Dune",
        "authors": ["Frank Herbert"],
        "subjects": ["science fiction"],
        "language": "EN",
        "binding": "Mass Market Paperback",
        "date_published": "1990-09",
        "publisher": "Ace",
    },
    {
        "isbn13": "9780593098233",
        "title": "Dune Messiah",
        "authors": ["Frank Herbert"],
        "subjects": ['Fiction, "Space" \\ opera'],
        "language": "en",
        "binding": "paperback",
        "date_published": "1990",
    },
    {
        "isbn13": "9783453317178",
        "title": "Der Wüstenplanet",
        "authors": ["Frank Herbert", "Jakob Schmidt"],
        "language": "de",
        "binding": "Paperback",
    },
]
DUNE, OLD_DUNE, MESSIAH, GERMAN = (book["isbn13"] for book in BOOKS)


@pytest.fixture
def api(api_without_key_check: APIClient) -> APIClient:
    """Without the check of API keys: like the rest of the quota, it refuses to work in the test's transaction."""
    return api_without_key_check


@pytest.fixture(autouse=True)
def stored(db: None) -> None:
    body = json.dumps({"books": BOOKS}).encode()
    assert store_books(decode_books(body, key="books").books).created == len(BOOKS)


def found(api: APIClient, query: str) -> list[str]:
    """The ISBNs of the books in order, by pages of two, and back again."""
    url, isbns, back = f"/api/books?page_size=2&{query}", [], None
    while url:
        response = api.get(url)
        assert response.status_code == 200, response.content
        body = response.json()
        isbns += [book["isbn13"] for book in body["results"]]
        url, back = body["next"], body["previous"]
    behind = len(body["results"])
    returned: list[str] = []
    while back:
        body = api.get(back).json()
        returned = [book["isbn13"] for book in body["results"]] + returned
        back = body["previous"]
    assert returned == isbns[: len(isbns) - behind]
    return isbns


@pytest.mark.parametrize(
    ("query", "isbns"),
    [
        (f"isbn={DUNE}&isbn={GERMAN}", [DUNE, GERMAN]),
        (f"isbn=0-441-01359-7,%20{GERMAN},9780000000002", [DUNE, GERMAN]),
        ("subject=SCIENCE%20FICTION", [DUNE, OLD_DUNE]),
        ("subject=fiction,%20%22space%22%20%5C%20opera", [MESSIAH]),
        ("subject=science", []),
        ("language=En", [DUNE, OLD_DUNE, MESSIAH]),
        ("binding=paperback", [DUNE, MESSIAH, GERMAN]),
        ("published_from=1990-09", [DUNE, OLD_DUNE]),
        ("published_from=1990&published_to=1990", [OLD_DUNE, MESSIAH]),
        ("published_to=1990-08", [MESSIAH]),
        ("published_to=2005-08-01&published_from=1990-09-02", []),
        ("published_from=1990&year=2005", [DUNE]),
        ("language=en&binding=paperback&author=herbert&published_to=2000", [MESSIAH]),
        ("ordering=isbn", [DUNE, OLD_DUNE, MESSIAH, GERMAN]),
        ("ordering=date", [GERMAN, MESSIAH, OLD_DUNE, DUNE]),
        ("ordering=-date", [DUNE, OLD_DUNE, MESSIAH, GERMAN]),
        ("ordering=relevance&title=dune", [DUNE, OLD_DUNE, MESSIAH]),
        ("ordering=relevance&title=dune+messiah", [MESSIAH]),
        ("ordering=relevance&title=dune&publisher=ace", [OLD_DUNE, DUNE]),
        ("ordering=relevance&author=jakob+schmidt", [GERMAN]),
    ],
)
def test_books_are_found_by_every_criterion_and_in_every_order(api: APIClient, query: str, isbns: list[str]) -> None:
    assert found(api, query) == isbns


def test_a_work_has_its_editions(api: APIClient) -> None:
    assert found(api, f"work_id={Work.objects.get(title='Dune').pk}") == [DUNE, OLD_DUNE]


def test_a_list_shows_the_fields_that_the_request_names(api: APIClient) -> None:
    [book] = api.get(f"/api/books?isbn={DUNE}&fields=synopsis,msrp,date_published&fields=authors").json()["results"]
    whole = api.get(f"/api/books/{DUNE}").json()
    assert book == {name: whole[name] for name in ("isbn13", "authors", "date_published", "msrp", "synopsis")}
    assert list(book) == [name for name in whole if name in book]
    for every in ("all", "title,all", ",".join(whole), ",".join(["all", *whole])):
        assert api.get(f"/api/books?isbn={DUNE}&fields={every}").json()["results"] == [whole]


@pytest.mark.parametrize("ordering", ["date", "-date", "isbn", "relevance&title=dune"])
def test_pages_show_every_book_once_although_thousands_have_one_date(api: APIClient, ordering: str) -> None:
    """CursorPagination steps over at most 1,000 equal values, and then shows the same page for ever."""
    work = Work.objects.get(title="Dune")
    of = Edition.objects.get(pk=DUNE)
    times = {"synced_at": of.synced_at, "created_at": of.synced_at, "updated_at": of.synced_at}
    same_day = {"date_published": of.date_published, "date_precision": "day"}
    Edition.objects.bulk_create(
        Edition(isbn13=str(9_790_000_000_000 + n), work=work, raw={}, content_hash="0" * 32, **times, **same_day)
        for n in range(1_300)
    )
    isbns, url = [], f"/api/books?title=dune&page_size=200&fields=isbn13&ordering={ordering}"
    while url:
        body = api.get(url).json()
        isbns += [book["isbn13"] for book in body["results"]]
        url = body["next"]
    assert len(isbns) == len(set(isbns)) == 1_303


def cursor(*position: Any) -> str:
    return quote(base64.b64encode(urlencode({"p": json.dumps(position)}).encode()).decode())


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (f"isbn={DUNE},978044101359", "isbn.1"),
        ("isbn=" + ",".join([DUNE] * 101), "isbn"),
        ("published_from=2015-13", "published_from"),
        ("published_to=0000", "published_to"),
        ("published_to=15", "published_to"),
        ("updated_since=yesterday", "updated_since"),
        ("updated_since=2026-05-05T12:00:00Z&ordering=date", "ordering"),
        ("ordering=relevance", "ordering"),
        ("ordering=title", "ordering"),
        ("fields=title,raw", "fields.1"),
        ("work_id=0", "work_id"),
        (f"cursor={cursor()}", "cursor"),
        (f"cursor={cursor(1)}", "cursor"),
        (f"cursor={cursor(chr(0))}", "cursor"),
        (f"cursor={cursor('2005-08-02', DUNE)}", "cursor"),
        (f"ordering=date&cursor={cursor(DUNE)}", "cursor"),
        (f"ordering=date&cursor={cursor('2005-13-02', DUNE)}", "cursor"),
        (f"updated_since=2026-05-05&cursor={cursor('x', DUNE)}", "cursor"),
        (f"ordering=relevance&title=dune&cursor={cursor('x', DUNE)}", "cursor"),
    ],
)
def test_an_invalid_parameter_is_refused_by_name(api: APIClient, query: str, field: str) -> None:
    refused = problem(api.get(f"/api/books?{query}"), 400)
    assert [error["field"] for error in refused["errors"]] == [field]


def test_an_unknown_field_is_answered_with_the_fields_that_there_are(api: APIClient) -> None:
    refused = problem(api.get("/api/books?fields=titel"), 400)
    assert refused["detail"].startswith('fields.0: "titel" is not one of "all", "isbn13", ')


def test_a_large_number_in_a_cursor_is_only_a_position(api: APIClient) -> None:
    assert found(api, f"ordering=relevance&title=dune&cursor={cursor('9' * 40, DUNE)}") == []


@pytest.mark.parametrize(
    ("index", "criteria"),
    [
        ("enrichment_edition_subjects", Criteria(subject="fiction")),
        ("enrichment_edition_language", Criteria(language="sw")),
        ("enrichment_edition_binding", Criteria(binding="spiral")),
    ],
)
def test_every_criterion_can_use_an_index(index: str, criteria: Criteria) -> None:
    """For four rows, PostgreSQL prefers a sequential scan, so the test forbids it."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_indexscan = off")
    assert f"Bitmap Index Scan on {index}" in find_books(criteria).order_by().explain()
