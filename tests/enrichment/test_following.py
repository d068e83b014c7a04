"""GET /api/books?updated_since= lets a program keep a copy of all books: it misses no change."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connection
from rest_framework.test import APIClient

from enrichment.books import storage
from enrichment.books.decoding import decode_books
from enrichment.books.following import settled_until
from enrichment.models import Edition
from tests.fixtures import known_isbns

pytestmark = pytest.mark.django_db(transaction=True)
ISBNS = known_isbns(7)
LONG_AGO = "2000-01-01T00:00:00Z"


@pytest.fixture
def api(api_without_key_check: APIClient) -> APIClient:
    return api_without_key_check


def store(*isbns: str, title: str = "First") -> None:
    body = json.dumps({"books": [{"isbn13": isbn, "title": title} for isbn in isbns]}).encode()
    storage.store_books(decode_books(body, key="books").books)


class Follower:
    """A program with a copy of all books: their titles by ISBN. It asks for what changed since it asked last."""

    def __init__(self, api: APIClient) -> None:
        self.api, self.since = api, LONG_AGO
        self.copy: dict[str, str] = {}

    def follow(self) -> list[str]:
        """Asks until there is nothing new; returns the ISBNs that came, in order."""
        came: list[str] = []
        url: str | None = f"/api/books?updated_since={self.since}&fields=title,updated_at&page_size=2"
        times: list[datetime] = []
        while url:
            page: dict[str, Any] = self.api.get(url).json()
            self.copy |= {book["isbn13"]: book["title"] for book in page["results"]}
            came += [book["isbn13"] for book in page["results"]]
            times += [datetime.fromisoformat(book["updated_at"]) for book in page["results"]]
            url = page["next"]
        assert times == sorted(times)
        assert all(time >= datetime.fromisoformat(self.since) for time in times)
        self.since = page["updated_until"]
        return came


@contextmanager
def stored_late(isbn: str) -> Iterator[None]:
    """Stores a book in another thread, in a transaction that commits at the end of the block."""
    stored, may_commit = threading.Event(), threading.Event()

    def wait_before_the_end(execute: Any, sql: str, *arguments: Any) -> Any:
        if sql == storage._DROP_INCOMING:  # the last statement of the transaction
            stored.set()
            assert may_commit.wait(30)
        return execute(sql, *arguments)

    def work() -> None:
        with connection.execute_wrapper(wait_before_the_end):
            store(isbn)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    assert stored.wait(30)
    try:
        yield
    finally:
        may_commit.set()
        thread.join()


def test_every_change_comes_once_and_only_changes_come(api: APIClient) -> None:
    follower = Follower(api)
    store(*ISBNS[:3])
    assert follower.follow() == sorted(ISBNS[:3])
    assert follower.follow() == []
    store(*ISBNS[:3])  # the same content
    store(ISBNS[1], title="Second")
    store(ISBNS[3])
    assert follower.follow() == [ISBNS[1], ISBNS[3]]
    assert follower.copy == {ISBNS[0]: "First", ISBNS[1]: "Second", ISBNS[2]: "First", ISBNS[3]: "First"}


def test_a_book_whose_transaction_commits_after_later_ones_is_not_missed(api: APIClient) -> None:
    follower = Follower(api)
    late, early = ISBNS[0], ISBNS[1]
    with stored_late(late):
        store(early)
        assert Edition.objects.filter(pk=early).exists()
        assert follower.follow() == []  # the change of `early` is later than one that is not settled
        assert follower.follow() == []
    assert Edition.objects.get(pk=late).updated_at < Edition.objects.get(pk=early).updated_at
    assert follower.follow() == [late, early]
    assert follower.follow() == []


def test_without_the_locks_the_late_book_would_be_missed(api: APIClient) -> None:
    follower = Follower(api)
    with patch("enrichment.api.catalogue.settled_until", now):
        with stored_late(ISBNS[0]):
            store(ISBNS[1])
            assert follower.follow() == [ISBNS[1]]
        assert follower.follow() == []


def now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def test_a_change_while_the_pages_are_read_comes_on_a_later_page(api: APIClient) -> None:
    store(*ISBNS[:3])
    page = api.get(f"/api/books?updated_since={LONG_AGO}&page_size=2").json()
    store(ISBNS[0], title="Second")
    page = api.get(page["next"]).json()
    assert [(book["isbn13"], book["title"]) for book in page["results"]] == [
        (sorted(ISBNS[:3])[2], "First"),
        (ISBNS[0], "Second"),
    ]
    assert page["next"] is None
    assert page["updated_until"] > LONG_AGO


def test_a_program_that_goes_on_at_the_time_of_a_change_gets_it_once_more(api: APIClient) -> None:
    store(ISBNS[0])
    moment = Edition.objects.get().updated_at.isoformat().replace("+00:00", "Z")
    assert [book["isbn13"] for book in api.get(f"/api/books?updated_since={moment}").json()["results"]] == [ISBNS[0]]


def test_nothing_is_unsettled_when_no_book_is_being_stored() -> None:
    store(ISBNS[0])
    before = now()
    assert settled_until() >= before


def test_only_lists_of_changes_have_updated_until(api: APIClient) -> None:
    assert "updated_until" not in api.get("/api/books").json()


def test_the_changes_are_read_by_an_index() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        cursor.execute("SET enable_bitmapscan = off")
        rows = Edition.objects.filter(updated_at__gte=LONG_AGO).order_by("updated_at", "isbn13")[:50]
        plan = rows.explain()
        cursor.execute("RESET enable_seqscan")
        cursor.execute("RESET enable_bitmapscan")
    assert "Index Scan using enrichment_edition_updated" in plan
    assert "Sort" not in plan
