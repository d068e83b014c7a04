"""The sandbox's listings (authors, queries, months, search) follow ISBNdb's contract, page by page."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from stdnum import isbn as stdnum_isbn

from alexandria.development.sandbox import catalogue

DUNE = "9780441013593"


def ids(books: list[dict[str, Any]]) -> list[str]:
    return [book["isbn13"] for book in books]


@pytest.mark.slow
def test_the_pages_of_an_author_have_every_book_once(client: httpx2.Client) -> None:
    answers = [
        client.get(f"/author/{catalogue.MORE_THAN_1000}?page={page}&pageSize=500").json() for page in (1, 2, 3, 4)
    ]

    found = [isbn for answer in answers for isbn in ids(answer["books"])]
    assert set(answers[0]) == {"author", "name", "books", "total", "page", "page_size"}
    assert [len(answer["books"]) for answer in answers] == [500, 500, 432, 0]
    assert len(set(found)) == 1432 == answers[0]["total"]
    assert all(stdnum_isbn.is_valid(isbn) for isbn in found)
    assert all(
        book["authors"] is None or book["authors"][0] == catalogue.MORE_THAN_1000 for book in answers[0]["books"]
    )


def test_the_books_of_an_author_are_the_same_by_isbn(client: httpx2.Client) -> None:
    books = client.get("/author/Stephen King?pageSize=1000").json()["books"]

    again = client.post("/books", json={"isbns": ids(books)}).json()["data"]

    assert {book["title"] for book in books} >= {"It", "Misery", "The Shining"}
    assert sorted(ids(again)) == sorted(ids(books))
    assert all(book in books for book in again)


def test_an_author_is_found_in_any_spelling_and_every_author_has_books(client: httpx2.Client) -> None:
    assert client.get("/author/j. r. r.  TOLKIEN").json()["author"] == "J.R.R. Tolkien"
    assert client.get("/author/Nobody Ever Heard Of").json()["books"][0]["authors"][0] == "Nobody Ever Heard Of"


def test_publishers_and_subjects_list_their_books(client: httpx2.Client) -> None:
    publisher = client.get("/publisher/Ace?pageSize=3").json()
    assert set(publisher) == {"name", "books", "total", "page", "page_size"}
    assert publisher["total"] >= len(publisher["books"]) == 3
    assert "Ace" in publisher["books"][0]["publisher"]
    subject = client.get("/subject/Science%20Fiction?pageSize=3").json()
    assert (subject["subject"], subject["name"], subject["page_size"]) == ("Science Fiction", "Science Fiction", 3)


@pytest.mark.slow
def test_an_author_without_total_ends_with_a_page_that_is_not_full(client: httpx2.Client) -> None:
    answers = [
        client.get(f"/author/{catalogue.FULL_PAGES_WITHOUT_TOTAL}?page={page}&pageSize=1000").json()
        for page in (1, 2, 3)
    ]

    assert [len(answer["books"]) for answer in answers] == [1000, 1000, 0]
    assert not any("total" in answer for answer in answers)


@pytest.mark.slow
def test_no_listing_has_more_than_ten_thousand_results(client: httpx2.Client) -> None:
    def count(page: int, size: int) -> int:
        return len(client.get(f"/author/{catalogue.MORE_THAN_10000}?page={page}&pageSize={size}").json()["books"])

    assert (count(10, 1000), count(11, 1000), count(12, 900)) == (1000, 0, 100)


@pytest.mark.slow
def test_an_answer_over_6_mb_is_a_500_and_half_a_page_is_not(client: httpx2.Client) -> None:
    whole = client.get(f"/author/{catalogue.PAGES_OVER_6_MB}?pageSize=1000")
    half = client.get(f"/author/{catalogue.PAGES_OVER_6_MB}?pageSize=500")

    assert (whole.status_code, half.status_code) == (500, 200)
    assert len(half.json()["books"]) == 500


@pytest.mark.parametrize(
    "query",
    ["pageSize=1001", "pageSize=0", "page=0", "page=one", "publishedFrom=2020-13", "publishedTo=now"],
)
def test_an_invalid_parameter_is_a_400(client: httpx2.Client, query: str) -> None:
    assert client.get(f"/author/Andy Weir?{query}").status_code == 400


def test_an_author_can_be_filtered_by_date_and_language(client: httpx2.Client) -> None:
    def ask(**parameters: Any) -> list[dict[str, Any]]:
        answer = client.get("/author/Andy Weir", params={"pageSize": 1000, **parameters}).json()
        return list(answer["books"])

    everything = len(ask())
    recent = ask(publishedFrom="2015", publishedTo="2021-05")
    assert {"Artemis", "Project Hail Mary"} <= {book["title"] for book in recent}
    assert "The Martian" not in {book["title"] for book in recent}
    assert 0 < len(recent) < everything
    assert {book["title"] for book in ask(year=2021)} >= {"Project Hail Mary"}
    assert 0 < len(ask(year=2021)) < everything
    assert 0 < len(ask(language="eng")) == len(ask(language="en")) < everything


@pytest.mark.slow
def test_books_of_a_month_and_of_a_year(client: httpx2.Client) -> None:
    month = client.get("/books/2024-03?column=date_published&pageSize=1000").json()
    later = client.get("/books/2024-03?column=date_published&pageSize=1000&page=2").json()
    year = client.get("/books/2024?column=date_published&pageSize=1000").json()

    assert {"James", "The Anxious Generation"} <= {book["title"] for book in month["books"]}
    assert month["total"] == len(month["books"]) + len(later["books"])
    assert not set(ids(month["books"])) & set(ids(later["books"]))
    assert all("2024" in book["date_published"] for book in month["books"] + year["books"])
    assert year["total"] > month["total"]
    assert client.get("/books/last week?column=date_published").json() == {"total": 0, "books": []}
    again = client.post("/books", json={"isbns": ids(month["books"])}).json()["data"]
    assert sorted(ids(again)) == sorted(ids(month["books"]))


def test_one_author_is_unknown_in_any_spelling(client: httpx2.Client) -> None:
    assert client.get(f"/author/{catalogue.UNKNOWN_AUTHOR}").status_code == 404
    assert client.get(f"/author/{catalogue.UNKNOWN_AUTHOR.lower()}?page=2").status_code == 404


@pytest.mark.slow
def test_a_subject_with_a_month_lists_the_books_of_the_month_on_it(client: httpx2.Client) -> None:
    months = "publishedFrom=2024-03&publishedTo=2024-03"
    on_poetry = client.get(f"/books/poetry?column=subjects&{months}&pageSize=1000").json()
    of_month = [
        book
        for page in (1, 2)
        for book in client.get(f"/books/2024-03?column=date_published&pageSize=1000&page={page}").json()["books"]
    ]

    assert 0 < on_poetry["total"] == len(on_poetry["books"]) < len(of_month)
    assert set(ids(on_poetry["books"])) < set(ids(of_month))
    assert all("Poetry" in book["subjects"] for book in on_poetry["books"] if book["subjects"])
    rest = client.get(f"/books/poetry?column=subjects&{months}&pageSize=100&page=2").json()["books"]
    assert ids(rest) == ids(on_poetry["books"])[100:]


def test_books_by_title_author_and_anything(client: httpx2.Client) -> None:
    assert client.get("/books/wind-up bird?column=title").json()["books"][0]["title"] == "The Wind-Up Bird Chronicle"
    assert client.get("/books/Frank Herbert?column=author").json()["books"][0]["title"] == "Dune"
    assert client.get("/books/murakami shore").json()["books"][0]["title"] == "Kafka on the Shore"
    assert client.get("/books/dune?column=colour").status_code == 400


def test_search_returns_its_list_as_data(client: httpx2.Client) -> None:
    answer = client.get("/search/books?author=Frank Herbert&pageSize=2&page=1").json()

    assert set(answer) == {"data", "total", "page", "page_size"}
    assert ids(answer["data"]) == [DUNE, "9780441172719"]
    assert ids(client.get("/search/books?isbn=0441013597").json()["data"]) == [DUNE]
    assert client.get("/search/books?isbn13=9780441013594").json()["data"] == []
    assert client.get("/search/books?text=dune").json()["data"][0]["title"] == "Dune"
    assert client.get("/search/books").status_code == 400


@pytest.mark.slow
def test_the_feed_lists_changes_since_a_day_and_ends_with_an_empty_page(client: httpx2.Client) -> None:
    def ask(**parameters: Any) -> dict[str, Any]:
        return dict(client.get("/feeds/books/updates", params=parameters).json())

    today = datetime.now(UTC).date()
    everything = [item for page in range(1, 7) for item in ask(page=page, pageSize=1000)["data"]]
    assert set(ask(page=7, pageSize=3)) == {"data", "page", "page_size"}
    assert ask(page=2, pageSize=3)["data"] == everything[3:6]
    assert ask(page=99, pageSize=1000)["data"] == []
    moments = [datetime.fromisoformat(item["updated_at"]) for item in everything]
    assert moments == sorted(moments)
    assert moments[0].date() >= today - timedelta(days=7)
    assert moments[-1] <= datetime.now(UTC)
    assert all(stdnum_isbn.is_valid(item["isbn13"]) for item in everything)

    recent = ask(lastUpdated=str(today - timedelta(days=2)), pageSize=1000)["data"]
    assert recent == everything[-len(recent) :]
    assert 0 < len(recent) < len(everything)
    assert ask(lastUpdated="2001-01-01", pageSize=1000)["data"] == everything[:1000]
    assert client.get("/feeds/books/updates?lastUpdated=yesterday").status_code == 400
