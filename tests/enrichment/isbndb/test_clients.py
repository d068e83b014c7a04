"""Programs that others made for ISBNdb work when only their base address and key are changed."""

import asyncio
import importlib
import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import isbnator.http
import pytest
from isbnator import ISBNdbAPIError, ISBNdbClient
from isbnator.models import Book

from alexandria.development.sandbox.server import Sandbox
from enrichment.models import Edition
from quota.models import Consumer
from tests.api_clients import generated
from tests.enrichment.isbndb.contract import OPENAPI, book_of
from tests.fixtures import NOON, balance, known_isbns, stop_database_clock

pytestmark = pytest.mark.slow

PACKAGE = "isbndb_client"


def is_tidy(isbn: str) -> bool:
    """Whether isbnator can read the book: it takes no null for a list, and no words for a number."""
    try:
        Book.model_validate(book_of(isbn))
    except ValueError:
        return False
    return True


@pytest.fixture
def address(live_server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The base address of ISBNdb's interface, which isbnator takes from a constant."""
    monkeypatch.setattr(isbnator.http, "BASE_URL", f"{live_server.url}/isbndb")
    return f"{live_server.url}/isbndb"


@pytest.mark.usefixtures("address")
def test_isbnator_enriches_100_isbns_and_meets_the_limit(
    sandbox: Sandbox, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    # isbnator waits after its last attempt too, here until midnight.
    monkeypatch.setattr(isbnator.http, "asyncio", SimpleNamespace(sleep=wait))
    Consumer.objects.update(daily_budget=101)
    *isbns, searched, refused = [isbn for isbn in known_isbns(250) if is_tidy(isbn)][:102]

    def client() -> ISBNdbClient:
        return ISBNdbClient(api_key=key, max_retries=0, requests_per_second=10_000)

    async def enrich() -> None:
        async with client() as isbnator:
            for isbn in isbns:
                assert (await isbnator.book(isbn)).books[0].isbn13 == isbn
            assert (await isbnator.search(isbn=searched)).books[0].isbn13 == searched

    async def meet_the_limit() -> None:
        async with client() as isbnator:
            with pytest.raises(ISBNdbAPIError, match="Daily quota exceeded") as refusal:
                await isbnator.book(refused)
            assert refusal.value.status_code == 429
            with pytest.raises(ISBNdbAPIError, match="Not Found"):
                await isbnator.book("9780593135205")
            assert (await isbnator.book(isbns[0])).books[0].isbn13 == isbns[0], "the store still answers"

    asyncio.run(enrich())
    stop_database_clock(NOON + timedelta(hours=1))
    asyncio.run(meet_the_limit())
    assert waits == [11 * 3600]
    assert set(Edition.objects.values_list("isbn13", flat=True)) == {*isbns, searched}
    assert balance(sandbox) == (101, 101)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package that openapi-python-client makes from ISBNdb's OpenAPI file, imported.

    Without the form as a second body of POST /books: for two bodies it writes a module that cannot be imported.
    """
    file = json.loads(OPENAPI.read_text())
    del file["paths"]["/books"]["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]
    trimmed = tmp_path / "isbndb.json"
    trimmed.write_text(json.dumps(file))
    return generated(trimmed, PACKAGE, monkeypatch)


def test_a_client_made_from_isbndbs_openapi_file_works(client: Any, address: str, sandbox: Sandbox, key: str) -> None:
    models = importlib.import_module(f"{PACKAGE}.models")

    def ask(operation: str, *arguments: Any, **parameters: Any) -> Any:
        function = importlib.import_module(f"{PACKAGE}.api.{operation}_invoke").sync_detailed
        with client.AuthenticatedClient(base_url=address, token=key, prefix="") as connection:
            answer = function(*arguments, client=connection, **parameters)
        assert answer.parsed is not None, answer
        return answer.parsed

    atomic_habits = "9780735211292"
    assert ask("books.get_app_api_book_book", atomic_habits).book.title == "Atomic Habits"
    assert ask("books.get_app_api_book_book", "9780593135205").message == "Not Found"
    wanted = models.GetBooksMultipleRequest(isbns=[atomic_habits, "nonsense"])
    batch = ask("books.post_app_api_book_bookmultiple", body=wanted)
    assert (batch.total, batch.requested, batch.data[0].isbn13) == (1, 2, atomic_habits)
    plan = ask("key.get_app_api_key").plan_limit
    assert (plan.total, plan.spent, plan.left) == (13_000, 1, 12_999)
    assert ask("stats.get_app_api_stats_getstats").books == 1
    author = ask("author.get_app_api_author_authordetails", "James Clear", page_size=1)
    assert (author.name, author.page_size, len(author.books)) == ("James Clear", 1, 1)
    assert len(ask("books.get_app_api_book_searchbook", "atomic habits", page_size=1).data) == 1
    found = ask("search.get_app_api_search_searchbooks", text="atomic habits", page_size=1)
    assert (found.page_size, len(found.data)) == (1, 1)
    assert ask("publisher.get_app_api_publisher_publisherdetails", "Avery", page_size=1).name == "Avery"
    assert ask("subject.get_app_api_subject_subjectsdetails", "Habit", page_size=1).subject == "Habit"
    assert balance(sandbox) == (6, 6)
