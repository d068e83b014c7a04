"""GET /api/books, /api/authors and /api/works find stored rows in pages, and never spend a call."""

import base64
import json
from collections import Counter
from collections.abc import Callable
from urllib.parse import quote

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from alexandria.development.sandbox import catalogue
from enrichment.books.decoding import decode_books
from enrichment.books.match_keys import name_key, title_key
from enrichment.books.storage import store_books
from enrichment.models import Author, Edition, Work
from enrichment.selectors.catalogue import Criteria, find_authors, find_books
from tests.fixtures import database_moved, problem

REAL = catalogue.real_books()

pytestmark = pytest.mark.usefixtures("real_books_stored")


@pytest.fixture
def api(api_without_key_check: APIClient) -> APIClient:
    """Without the check of API keys: like the rest of the quota, it refuses to work in the test's transaction."""
    return api_without_key_check


def found(api: APIClient, path: str) -> list[dict]:
    """All pages of a list, in order."""
    items, url = [], path
    while url:
        response = api.get(url)
        assert response.status_code == 200, response.content
        page = response.json()
        assert set(page) == {"next", "previous", "results"}
        items += page["results"]
        url = page["next"]
    return items


def titles(api: APIClient, query: str) -> set[str]:
    return {book["title"] for book in found(api, f"/api/books?{query}")}


@pytest.mark.slow
def test_the_pages_show_every_book_once_in_order_even_while_books_are_added(api: APIClient) -> None:
    first = api.get("/api/books?page_size=200").json()
    Edition.objects.filter(pk__in=[book["isbn13"] for book in first["results"][:3]]).delete()
    early, late = "9780000000002", "9799999999990"
    body = json.dumps({"books": [{"isbn13": early, "title": "Early"}, {"isbn13": late, "title": "Late"}]}).encode()
    store_books(decode_books(body, key="books").books)
    rest = found(api, first["next"])
    isbns = [book["isbn13"] for book in first["results"] + rest]
    assert isbns == [*sorted(REAL), late]
    back = api.get(api.get(first["next"]).json()["previous"]).json()["results"]
    assert [book["isbn13"] for book in back][-197:] == isbns[3:200]
    assert len(api.get("/api/books").json()["results"]) == 50


def test_a_book_in_a_list_is_shown_without_its_long_texts(api: APIClient) -> None:
    (book,) = found(api, "/api/books?title=project+hail+mary")
    assert book.pop("synced_at")
    assert book == {
        "isbn13": "9780593135204",
        "title": "Project Hail Mary",
        "work": {"id": Work.objects.get(title_key="project hail mary").pk, "title": "Project Hail Mary"},
        "authors": [{"id": Author.objects.get(name_key="andy weir").pk, "name": "Andy Weir"}],
        "publisher": "Ballantine Books",
        "language": "en",
        "binding": "Hardcover",
        "pages": 476,
        "date_published": "2021-05-04",
        "date_precision": "day",
        "image": "https://covers.isbndb.example/52/04/9780593135204.jpg",
    }


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("title=WIND+UP", "The Wind-Up Bird Chronicle"),
        ("title=The+Hobbit", "The Hobbit"),
        ("title=kafka+on+the+shroe", "Kafka on the Shore"),
        ("title=nchanted", None),
        ("author=Garcia+Marquez", "One Hundred Years of Solitude"),
        ("author=Herbert,+Frank", "Dune"),
        ("author=j+r+r+tolkien", "The Hobbit"),
        ("author=GARC%C3%8DA+M%C3%A1rquez,+Gabriel+(1927-2014)", "One Hundred Years of Solitude"),
        ("author=t%C3%B8lki%C3%A9n", "The Hobbit"),
        ("author=Murakammi", "Kafka on the Shore"),
        ("author=murakami&title=shore", "Kafka on the Shore"),
        ("author=murakami&title=dune", None),
        ("title=sapiens&year=2015&publisher=HARPER", "Sapiens: A Brief History of Humankind"),
        ("title=sapiens&year=2014", None),
        ("publisher=William+Moro", "Freakonomics"),
        ("author=100%25", None),
        ("author_id=999999999999", None),
    ],
)
def test_books_are_found_by_parts_of_words_and_by_similar_words(api: APIClient, query: str, title: str | None) -> None:
    assert (title in titles(api, query)) if title else titles(api, query) == set()


def test_publisher_and_year_find_exactly_the_matching_books(api: APIClient) -> None:
    penguins = {book.isbn13 for book in REAL.values() if "penguin" in book.publisher.lower()}
    assert {book["isbn13"] for book in found(api, "/api/books?publisher=penguin&page_size=7")} == penguins
    of_2015 = {book.isbn13 for book in REAL.values() if book.date.startswith("2015")}
    assert {book["isbn13"] for book in found(api, "/api/books?year=2015")} == of_2015
    assert len(penguins) > 7
    assert of_2015


def test_authors_are_found_with_the_number_of_their_editions(api: APIClient) -> None:
    counts = Counter(name_key(author) for book in REAL.values() for author in book.authors)
    everyone = found(api, "/api/authors?page_size=100")
    assert [(name_key(author["name"]), author["editions"]) for author in everyone] == sorted(counts.items())

    kings = found(api, "/api/authors?search=king")
    assert "Stephen King" in [author["name"] for author in kings]
    assert len(kings) < len(everyone) / 10
    assert [author["name"] for author in found(api, "/api/authors?search=marquez,+gabriel+garcia")] == [
        "Gabriel García Márquez"
    ]

    top = api.get("/api/authors/top?limit=20").json()["results"]
    assert [author["editions"] for author in top] == [count for _, count in counts.most_common(20)]
    assert all(counts[name_key(author["name"])] == author["editions"] for author in top)
    assert len(api.get("/api/authors/top").json()["results"]) == 100


def test_an_author_links_to_the_editions_and_an_edition_to_its_work(api: APIClient, monkeypatch) -> None:
    (listed,) = found(api, "/api/authors?search=harper+lee")
    author = api.get(f"/api/authors/{listed['id']}").json()
    editions = found(api, author["books"])
    by_her = [book for book in REAL.values() if book.authors == ("Harper Lee",)]
    works = {title_key(book.title) for book in by_her}
    assert (author["name"], author["editions"], author["works"]) == ("Harper Lee", len(by_her), len(works))
    assert [book["isbn13"] for book in editions] == sorted(book.isbn13 for book in by_her)

    mockingbird = next(book["work"] for book in editions if "Mockingbird" in book["title"])
    work = api.get(f"/api/works/{mockingbird['id']}").json()
    assert (work["id"], work["title"]) == (mockingbird["id"], mockingbird["title"])
    assert work["editions"] == [book for book in editions if book["work"]["id"] == work["id"]]
    assert work["editions_count"] == len(work["editions"]) >= 2
    monkeypatch.setattr("enrichment.selectors.catalogue.MAX_EDITIONS", 1)
    first = api.get(f"/api/works/{mockingbird['id']}").json()
    assert (first["editions"], first["editions_count"]) == (work["editions"][:1], work["editions_count"])

    for path in ("/api/authors/0", "/api/works/0", f"/api/authors/{10**30}", f"/api/works/{10**30}"):
        problem(api.get(path), 404)


@pytest.mark.parametrize(
    ("path", "queries"),
    [
        ("/api/books?page_size=", 6),
        ("/api/books?title=to&author=lee&publisher=harper&page_size=", 6),
        ("/api/authors?page_size=", 4),
        ("/api/authors?search=jo&page_size=", 4),
        ("/api/authors/top?limit=", 5),
    ],
)
def test_a_longer_page_needs_no_more_queries(api: APIClient, path: str, queries: int) -> None:
    for length in (1, 100):
        with CaptureQueriesContext(connection) as captured:
            assert api.get(f"{path}{length}").status_code == 200
        assert len(captured) == queries


def test_author_and_work_need_a_constant_number_of_queries(api: APIClient) -> None:
    work = Work.objects.get(title_key="to kill a mockingbird")
    for path, queries in ((f"/api/works/{work.pk}", 4), (f"/api/authors/{Author.objects.earliest('pk').pk}", 1)):
        with CaptureQueriesContext(connection) as captured:
            assert api.get(path).status_code == 200
        assert len(captured) == queries


def cursor(position: str) -> str:
    return quote(base64.b64encode(f"p={quote(position)}".encode()).decode())


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("books?page_size=0", "page_size"),
        ("books?page_size=1001", "page_size"),
        ("authors?page_size=201", "page_size"),
        ("books?page_size=many", "page_size"),
        ("books?cursor=x", "cursor"),
        ("books?cursor=é", "cursor"),
        (f"books?cursor={cursor(chr(0))}", "cursor"),
        ("books?year=0", "year"),
        ("books?year=10000", "year"),
        ("books?year=MMXV", "year"),
        ("books?title=+", "title"),
        (f"books?publisher={'x' * 151}", "publisher"),
        ("books?author=%00", "author"),
        ("books?author_id=0", "author_id"),
        (f"books?author_id={10**30}", "author_id"),
        ("authors?search=+", "search"),
        (f"authors?cursor={cursor(chr(0))}", "cursor"),
        ("authors/top?limit=20001", "limit"),
    ],
)
def test_an_invalid_parameter_is_refused_by_name(api: APIClient, path: str, field: str) -> None:
    refused = problem(api.get(f"/api/{path}"), 400)
    assert [error["field"] for error in refused["errors"]] == [field]


@pytest.mark.slow
def test_an_invented_cursor_is_only_a_start_position(api: APIClient) -> None:
    last, first = cursor('["zzz"]'), cursor('["9"]')
    assert found(api, f"/api/books?cursor={last}") == []
    assert found(api, f"/api/books?page_size=200&cursor={first}")[0]["isbn13"] == min(REAL)


def test_a_path_of_the_catalogue_is_not_an_isbn(api: APIClient) -> None:
    problem(api.get("/api/books/enrich-new-releases"), 405)
    problem(api.post("/api/books", {}, format="json"), 405)


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        ("enrichment_author_name_trigram", lambda: find_authors("murakami")),
        ("enrichment_author_name_trigram", lambda: find_authors("wu")),
        ("enrichment_work_title_trigram", lambda: find_books(Criteria(title="kafka on the shore"))),
        ("enrichment_edition_publisher", lambda: find_books(Criteria(publisher="penguin"))),
        ("enrichment_edition_day", lambda: find_books(Criteria(year=2015))),
    ],
)
def test_every_search_can_use_an_index(index: str, rows: Callable[[], QuerySet]) -> None:
    """For 600 rows, PostgreSQL prefers a sequential scan, so the test forbids it.

    The statistics are those of these rows, whatever an earlier test has left.
    """
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE enrichment_author, enrichment_edition, enrichment_work")
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_indexscan = off")
    assert f"Bitmap Index Scan on {index}" in rows().order_by().explain()


@pytest.mark.django_db(transaction=True)
def test_without_postgresql_the_answer_is_503(api: APIClient) -> None:
    with database_moved(port=1):
        for path in ("/api/books?title=dune", "/api/authors", "/api/authors/top", "/api/authors/1", "/api/works/1"):
            assert problem(api.get(path), 503)["code"] == "database_unavailable"
