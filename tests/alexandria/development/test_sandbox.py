"""The sandbox's books by ISBN, compared with ISBNdb's public OpenAPI file and with what ISBNdb really sends."""

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
from stdnum import ean
from stdnum import isbn as stdnum_isbn

import alexandria
from alexandria.development.sandbox import Sandbox, catalogue, isbns

DEMO_ISBNS = Path(alexandria.__file__).parent / "development" / "data" / "demo_isbns.txt"
DUNE = "9780441013593"
# The keys of the schema Book, with the types that ISBNdb really sends.
BOOK: dict[str, tuple[type, ...]] = {
    "title": (str,),
    "title_long": (str,),
    "isbn": (str, type(None)),
    "isbn13": (str,),
    "isbn10": (str, type(None)),
    "dewey_decimal": (list, type(None)),
    "binding": (str, type(None)),
    "publisher": (str, type(None)),
    "language": (str, type(None)),
    "date_published": (str,),
    "edition": (str, type(None)),
    "pages": (int, str, type(None)),
    "dimensions": (str, type(None)),
    "dimensions_structured": (dict, list, type(None)),
    "overview": (str, type(None)),
    "image": (str, type(None)),
    "image_original": (str, type(None)),
    "msrp": (int, float, type(None)),
    "excerpt": (str, type(None)),
    "synopsis": (str, type(None)),
    "authors": (list, type(None)),
    "subjects": (list, type(None)),
    "reviews": (list, type(None)),
    "prices": (list, type(None)),
    "related": (list, dict, type(None)),
    "other_isbns": (list, type(None)),
}


def a_thousand() -> list[str]:
    """A thousand consecutive valid ISBNs. None is a real book of the sandbox."""
    return [f"978012345{n:03d}{ean.calc_check_digit(f'978012345{n:03d}')}" for n in range(1000)]


def assert_is_book(book: dict[str, Any]) -> None:
    assert set(BOOK) <= set(book)
    for name, types in BOOK.items():
        assert isinstance(book[name], types), (name, book[name])
    assert stdnum_isbn.is_valid(book["isbn13"])
    assert book["isbn"] in {book["isbn13"], book["isbn10"], None}


def ids(books: list[dict[str, Any]]) -> list[str]:
    return [book["isbn13"] for book in books]


@pytest.mark.slow
def test_a_post_of_a_thousand_isbns_finds_about_eleven_in_twelve_in_another_order(client: httpx2.Client) -> None:
    asked = a_thousand()

    answer = client.post("/books", json={"isbns": asked})

    found = ids(answer.json()["data"])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["requested"] == 1000
    assert answer.json()["total"] == len(found) == len(set(found))
    assert 890 <= len(found) <= 940
    assert set(found) < set(asked)
    assert found != [isbn for isbn in asked if isbn in set(found)]
    assert 900 <= len(answer.content) / len(found) <= 2200
    for book in answer.json()["data"]:
        assert_is_book(book)


@pytest.mark.slow
def test_the_same_isbn_is_always_the_same_book(client: httpx2.Client) -> None:
    first = client.post("/books", json={"isbns": a_thousand()}).json()["data"]

    with Sandbox(max_rps=None) as other:
        again = httpx2.post(f"{other.url}/books", json={"isbns": a_thousand()}, headers={"Authorization": other.key})
        one = httpx2.get(f"{other.url}/book/{first[0]['isbn13']}", headers={"Authorization": other.key})

    assert again.json()["data"] == first
    assert one.json() == {"book": first[0]}


def test_every_typical_defect_occurs(client: httpx2.Client) -> None:
    books = client.post("/books", json={"isbns": a_thousand()}).json()["data"]

    dates = [book["date_published"] for book in books]
    assert {type(book["isbn"]) for book in books} == {str, type(None)}
    assert any(book["isbn"] == book["isbn10"] for book in books)
    assert {len(date) for date in dates} >= {0, 4, 7, 10, len("2023-10-26T00:00:01Z")}
    assert any(date[:1].isalpha() for date in dates)
    assert {type(book["pages"]) for book in books} == {int, str}
    assert {type(book["related"]) for book in books} == {dict, list, type(None)}
    for name in ("authors", "subjects", "reviews", "other_isbns"):
        assert {type(book[name]) for book in books} == {list, type(None)}
    assert any(set(book) > set(BOOK) for book in books)
    assert any(book["image_original"] for book in books)


def test_some_isbns_are_editions_of_one_work(client: httpx2.Client) -> None:
    books = client.get(f"/author/{catalogue.MORE_THAN_1000}?pageSize=100").json()["books"]

    by_isbn = {book["isbn13"]: book for book in books}
    others = [(book, other["isbn"]) for book in books for other in book["other_isbns"] or []]
    pairs = [(book, by_isbn[isbn]) for book, isbn in others if isbn in by_isbn]
    assert pairs
    assert all(book["title"] == other["title"] and book["isbn13"] != other["isbn13"] for book, other in pairs)


@pytest.mark.parametrize(
    "body",
    [
        {"json": {"isbns": [DUNE, 9780451524935]}},
        {"json": {"isbns": {"0": "0-441-01359-7", "1": 451524934}}},
        {"data": {"isbns": f"{DUNE},9780451524935"}},
        {"data": {"isbns": [DUNE, "9780451524935"]}},
        {"data": {"isbns[0]": DUNE, "isbns[1]": "9780451524935"}},
    ],
)
def test_post_books_accepts_lists_objects_and_forms(client: httpx2.Client, body: dict[str, Any]) -> None:
    answer = client.post("/books", **body).json()

    assert (answer["requested"], answer["total"]) == (2, 2)
    assert {book["title"] for book in answer["data"]} == {"Dune", "1984"}


def test_invalid_and_repeated_isbns_count_as_requested_but_not_as_found(client: httpx2.Client) -> None:
    answer = client.post("/books", json={"isbns": [DUNE, "0441013597", "9780441013594", "no ISBN"]}).json()

    assert (answer["requested"], ids(answer["data"])) == (4, [DUNE])


@pytest.mark.parametrize(
    "content", [b'{"isbns": []}', b'{"isbns": [true]}', b'{"isbns": "9"}', b"{}", b"{broken", b"", b'{"isbns": [null]}']
)
def test_an_invalid_body_is_a_400(client: httpx2.Client, content: bytes) -> None:
    answer = client.post("/books", content=content, headers={"Content-Type": "application/json"})

    assert answer.status_code == 400
    assert set(answer.json()) == {"message", "error_message"}


def test_more_isbns_than_the_plan_allows_are_a_400(client: httpx2.Client) -> None:
    assert client.post("/books", json={"isbns": [*a_thousand(), DUNE]}).status_code == 400


@pytest.mark.parametrize("isbn", [DUNE, "0441013597", "978-0-441-01359-3"])
def test_a_real_book_has_its_real_data(client: httpx2.Client, isbn: str) -> None:
    book = client.get(f"/book/{isbn}").json()["book"]

    assert_is_book(book)
    assert book["isbn13"] == DUNE
    assert (book["title"], book["authors"], book["publisher"]) == ("Dune", ["Frank Herbert"], "Ace")
    assert book["synopsis"] is None


def test_an_unknown_or_invalid_isbn_is_a_404(client: httpx2.Client) -> None:
    unknown = isbns.isbn13_at(40_000, isbns.KNOWN_PER_SLOT)

    for isbn in (unknown, "9780441013594", "dune"):
        answer = client.get(f"/book/{isbn}")
        assert answer.status_code == 404
        assert set(answer.json()) == {"message", "error_message"}


def test_isbns_that_begin_with_979_are_known_and_have_no_isbn_10(client: httpx2.Client) -> None:
    asked = [f"979860000{n:03d}{ean.calc_check_digit(f'979860000{n:03d}')}" for n in range(100)]

    books = client.post("/books", json={"isbns": asked}).json()["data"]

    assert 80 <= len(books) < 100
    assert all(book["isbn10"] is None for book in books)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/books"), ("POST", "/key"), ("GET", "/nothing"), ("PUT", "/books")]
)
def test_an_unknown_path_is_a_404_in_json(client: httpx2.Client, method: str, path: str) -> None:
    answer = client.request(method, path)

    assert answer.status_code == 404
    assert set(answer.json()) == {"message", "error_message"}


def test_the_catalogue_has_hundreds_of_real_books_with_valid_isbns() -> None:
    books = catalogue.real_books()

    assert len(books) >= 400
    assert all(stdnum_isbn.is_valid(isbn) and len(isbn) == 13 for isbn in books)
    assert all(book.title and all(book.authors) for book in books.values())
    assert all(book.date[:4].isdecimal() and len(book.date) in {4, 10} for book in books.values() if book.date)


def test_the_demo_list_has_real_books_in_many_forms_and_about_thirty_invalid_lines() -> None:
    lines = [line for line in DEMO_ISBNS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]

    bare = [re.sub(r"(?i)^ *isbn(-13)?:? ", "", line).replace("–", "-").upper() for line in lines]
    parsed = [isbns.parse(text) for text in bare]
    right = [isbn for isbn in parsed if isbn]
    assert len(lines) >= 260
    assert 25 <= parsed.count(None) <= 35
    assert len(set(right) - set(catalogue.real_books())) == 1, "one that the sandbox does not know"
    assert 200 <= len(set(right)) <= len(right) - 20
    assert {"-", " ", "–", "x"} <= {character for line in lines for character in line}


def test_every_isbn_has_one_place() -> None:
    for slot, position in ((0, 0), (5_000, 1), (61_234, 14_999), (66_665, 7_500)):
        isbn = isbns.isbn13_at(slot, position)
        assert stdnum_isbn.is_valid(isbn)
        assert isbns.place(isbn) == (slot, position)
