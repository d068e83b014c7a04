import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from stdnum import ean

from enrichment.books import storage
from enrichment.books.decoding import decode_books
from enrichment.books.fields import COLUMNS, Book
from enrichment.books.storage import StoreResult, remember_misses, store_books
from enrichment.models import Author, Edition, EditionAuthor, Miss, Work
from tests.enrichment.books.test_decoding import any_book

pytestmark = pytest.mark.django_db(transaction=True)
DUNE = "9780441172719"
OTHER = "9780804429573"
LAST_YEAR = datetime(2024, 1, 1, tzinfo=UTC)
THIS_YEAR = datetime(2025, 1, 1, tzinfo=UTC)


def decode(*books: dict[str, Any]) -> list[Book]:
    return decode_books(json.dumps({"data": books}).encode(), key="data").books


def isbn(number: int) -> str:
    return f"978{number:09d}" + ean.calc_check_digit(f"978{number:09d}")


def many(count: int, **fields: Any) -> list[Book]:
    return decode(
        *(
            {"isbn13": isbn(n), "title": f"Book {n % 50}", "authors": [f"Author {n % 7}"], **fields}
            for n in range(count)
        )
    )


def authors_of(isbn13: str) -> list[str]:
    links = EditionAuthor.objects.filter(edition_id=isbn13).select_related("author")
    assert [link.position for link in links] == list(range(1, len(links) + 1))
    return [link.author.name for link in links]


def row_versions(table: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT ctid, xmin FROM {table} ORDER BY ctid")  # noqa: S608
        return list(cursor.fetchall())


def test_a_new_book_is_stored_with_its_work_authors_and_every_field() -> None:
    sent = {
        "isbn13": DUNE,
        "title": "Dune",
        "title_long": "Dune: The Desert Planet",
        "authors": ["Frank Herbert", 'O\'Brien, "Flann" \\'],
        "publisher": "Ace {\\N\t}",
        "pages": "535 pages",
        "date_published": "1990-09",
        "msrp": 9.99,
        "dewey_decimal": ["813.54"],
        "subjects": ["Sci, Fi", 'a "quoted" one', "back\\slash", "NULL", "line\nbreak"],
        "other_isbns": [{"isbn": OTHER}],
        "image": "https://images.isbndb.com/dune.jpg",
        "new": {"a": [1, None]},
    }
    [book] = decode(sent)
    assert store_books([book]) == StoreResult(created=1)
    edition = Edition.objects.get()
    assert {name: getattr(edition, name) for name in COLUMNS} == {name: getattr(book, name) for name in COLUMNS} | {
        "raw": sent
    }
    assert (edition.work.title, edition.work.title_key, edition.work.author_key) == ("Dune", "dune", "frank herbert")
    assert authors_of(DUNE) == book.authors
    assert edition.created_at == edition.updated_at >= edition.synced_at


def test_the_json_is_compressed_with_lz4_where_postgresql_has_it() -> None:
    store_books(many(3, notes=" ".join(f"word {number}" for number in range(400))))
    with connection.cursor() as cursor:
        cursor.execute("SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'")
        [[methods]] = cursor.fetchall()
        cursor.execute("SELECT DISTINCT pg_column_compression(raw) FROM enrichment_edition")
        assert cursor.fetchall() == [("lz4" if "lz4" in methods else "pglz",)]


def test_created_updated_and_unchanged_books_are_counted() -> None:
    books = many(30)
    assert store_books(books[:20]) == StoreResult(created=20)
    changed = [replace(book, content_hash=books[29].content_hash) for book in books[:5]]
    assert store_books(changed + books[5:]) == StoreResult(created=10, updated=5, unchanged=15)


def test_an_empty_batch_stores_nothing() -> None:
    assert store_books([]) == StoreResult()


def test_when_two_books_have_one_isbn_the_later_is_stored() -> None:
    assert store_books(decode({"isbn13": DUNE, "title": "one"}) + decode({"isbn13": DUNE, "title": "two"})).created == 1
    assert Edition.objects.get().title == "two"


def test_a_changed_book_gets_new_fields_work_and_links_and_keeps_its_creation_time() -> None:
    store_books(decode({"isbn13": DUNE, "title": "Dune", "authors": ["A", "B", "C"], "pages": 1}))
    before = Edition.objects.get()
    store_books(decode({"isbn13": DUNE, "title": "Dune Messiah", "authors": ["C", "A"]}))
    after = Edition.objects.get()
    assert (after.title, after.pages, after.work.title_key) == ("Dune Messiah", None, "dune messiah")
    assert authors_of(DUNE) == ["C", "A"]
    assert after.created_at == before.created_at
    assert after.updated_at > before.updated_at


def test_an_unchanged_book_only_gets_a_new_sync_time() -> None:
    book = {"isbn13": DUNE, "title": "Dune", "authors": ["A", "B"]}
    store_books(decode({**book, "image_original": "https://a/1"}), synced_at=LAST_YEAR)
    before = dict(Edition.objects.values().get())
    others = {table: row_versions(f"enrichment_{table}") for table in ("work", "author", "editionauthor")}
    store_books(decode({**book, "image_original": "https://a/2"}), synced_at=THIS_YEAR)
    after = dict(Edition.objects.values().get())
    assert (before.pop("synced_at"), after.pop("synced_at")) == (LAST_YEAR, THIS_YEAR)
    assert after == before
    assert others == {table: row_versions(f"enrichment_{table}") for table in others}


def test_editions_with_one_title_and_first_author_share_a_work_and_authors_across_batches() -> None:
    store_books(decode({"isbn13": DUNE, "title": "The Dune", "authors": ["Frank Herbert"]}))
    store_books(decode({"isbn13": OTHER, "title": "Dune, The", "authors": ["Herbert, Frank", "Someone Else"]}))
    work = Work.objects.get()
    assert work.title == "The Dune"
    assert [edition.isbn13 for edition in work.editions.all()] == [DUNE, OTHER]
    assert authors_of(OTHER) == ["Frank Herbert", "Someone Else"]
    assert [edition.isbn13 for edition in Author.objects.get(name="Frank Herbert").editions.all()] == [DUNE, OTHER]


def test_two_volumes_are_two_works_and_a_series_or_imprint_in_brackets_splits_none() -> None:
    titles = [
        ("Fables", "Fables, Vol. 1: Legends in Exile"),
        ("Fables", "Fables, Vol. 2: Animal Farm"),
        ("Fables (Volume 2)", "Fables (Volume 2)"),
        ("Dune", "Dune: A Novel"),
        ("Dune (Dune Chronicles, #1)", "Dune (Dune Chronicles, #1) [Paperback]"),
        ("Dune (Penguin Classics)", "Dune"),
    ]
    authors = [["Jo Nesbø"], ["Nesbo, Jo"]]
    store_books(
        decode(
            *(
                {"isbn13": isbn(n), "title": title, "title_long": long, "authors": authors[n % 2]}
                for n, (title, long) in enumerate(titles)
            )
        )
    )
    works = dict(Edition.objects.values_list("isbn13", "work__title_key"))
    expected = ["fables volume 1", "fables volume 2", "fables volume 2", "dune", "dune", "dune"]
    assert [works[isbn(n)] for n in range(len(titles))] == expected
    assert (Work.objects.count(), Author.objects.get().name_key) == (3, "jo nesbo")


@pytest.mark.parametrize("known", [{"title": "Poems"}, {"authors": ["Frank Herbert"]}, {}])
def test_books_without_title_or_author_have_works_of_their_own(known: dict[str, object]) -> None:
    store_books(decode({"isbn13": DUNE, **known}, {"isbn13": OTHER, **known}))
    assert Work.objects.count() == 2


@pytest.mark.slow
def test_a_book_that_the_database_refuses_is_reported_and_the_other_books_are_stored() -> None:
    books = many(1000)
    bad = {17: "pages", 18: "title", 999: "isbn13"}
    books[17] = replace(books[17], pages=-1)
    books[18] = replace(books[18], title="a\0b")
    books[999] = replace(books[999], isbn13="9790000000000000")
    result = store_books(books)
    assert {error.isbn for error in result.errors} == {books[number].isbn13 for number in bad}
    assert "enrichment_edition_pages" in next(error.error for error in result.errors if error.isbn == books[17].isbn13)
    assert (result.created, Edition.objects.count()) == (997, 997)


def test_a_book_nested_too_deeply_for_postgresql_is_reported() -> None:
    books = many(3)
    deep = "[" * 100_000 + "]" * 100_000
    result = store_books([books[0], replace(books[1], raw=deep), books[2]])
    assert [error.isbn for error in result.errors] == [books[1].isbn13]
    assert result.created == 2


def test_a_miss_is_remembered_until_the_book_is_stored() -> None:
    remember_misses([OTHER, DUNE, DUNE], asked_at=LAST_YEAR)
    assert list(Miss.objects.values_list("isbn13", "asked_at")) == [(DUNE, LAST_YEAR), (OTHER, LAST_YEAR)]
    store_books(decode({"isbn13": DUNE}))
    assert [miss.isbn13 for miss in Miss.objects.all()] == [OTHER]


def test_a_miss_of_an_unchanged_book_is_forgotten() -> None:
    store_books(decode({"isbn13": DUNE}))
    remember_misses([DUNE])
    assert store_books(decode({"isbn13": DUNE})) == StoreResult(unchanged=1)
    assert not Miss.objects.exists()


def test_a_repeated_miss_gets_a_new_time() -> None:
    remember_misses([DUNE], asked_at=LAST_YEAR)
    remember_misses([DUNE])
    assert Miss.objects.get().asked_at > LAST_YEAR


def test_a_miss_must_be_an_isbn13() -> None:
    remember_misses([])
    with pytest.raises(IntegrityError):
        remember_misses(["0441172717"])
    assert not Miss.objects.exists()


def test_a_batch_needs_a_transaction_of_its_own() -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        store_books(many(1))
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        remember_misses([DUNE])


@settings(max_examples=50)
@given(st.lists(any_book, min_size=1, max_size=3))
@pytest.mark.slow
def test_every_decoded_book_can_be_stored(sent: list[dict[str, Any]]) -> None:
    books = decode(*({**each, "isbn13": isbn(number)} for number, each in enumerate(sent)))
    result = store_books(books)
    assert result.errors == []
    assert result.created + result.updated + result.unchanged == len(sent)
    for book in books:
        edition = Edition.objects.get(isbn13=book.isbn13)
        assert {name: getattr(edition, name) for name in COLUMNS if name != "raw"} == {
            name: getattr(book, name) for name in COLUMNS if name != "raw"
        }
        assert edition.author_links.count() == len(book.authors)


def race(batches: list[list[Book]]) -> list[StoreResult | BaseException]:
    """The workers store their batches at the same time, each with its own connection."""
    barrier = threading.Barrier(len(batches), timeout=30)

    def worker(books: list[Book]) -> StoreResult | BaseException:
        try:
            barrier.wait()
            return store_books(books)
        except OperationalError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(batches)) as pool:
        return list(pool.map(worker, batches))


def overlapping(version: int, workers: int = 4, count: int = 300) -> list[list[Book]]:
    """The same books for each worker, shuffled, and without some of them. Every other book always has one content."""
    chance = random.Random(version)
    batches = [many(count, synopsis=f"version {version} of worker {worker}") for worker in range(workers)]
    return [chance.sample([*many(count)[::2], *books[1::2]], count * 9 // 10) for books in batches]


@pytest.mark.slow
def test_workers_with_overlapping_batches_wait_for_each_other_without_a_deadlock() -> None:
    for version in range(6):
        results = race(overlapping(version))
        assert all(isinstance(result, StoreResult) and not result.errors for result in results), results
        stored = sum(result.created for result in results if isinstance(result, StoreResult))
        assert stored == (0 if version else Edition.objects.count())


@pytest.mark.slow
@pytest.mark.parametrize("statement", ["_UPSERT_EDITIONS", "_RENEW_UNCHANGED"])
def test_without_the_lock_order_such_workers_deadlock(monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    store_books(many(300))
    shuffled = getattr(storage, statement).replace("ORDER BY isbn13", "ORDER BY random()")
    monkeypatch.setattr(storage, statement, shuffled)
    monkeypatch.setattr(storage, "_ATTEMPTS", 1)
    assert any("deadlock detected" in str(result) for version in range(20) for result in race(overlapping(version)))


def test_a_book_that_another_worker_stores_between_the_two_transactions_is_unchanged() -> None:
    books = many(3)

    def be_faster(execute: Any, sql: str, *args: Any) -> Any:
        if sql == storage._CREATE_INCOMING:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(race, [books[:2]]).result()
        return execute(sql, *args)

    with connection.execute_wrapper(be_faster):
        assert store_books(books) == StoreResult(created=1, unchanged=2)
    assert [authors_of(book.isbn13) for book in books] == [book.authors for book in books]


@pytest.mark.parametrize("changes", [{}, {"synopsis": "new"}])
def test_a_batch_is_stored_after_the_locks_of_others_are_released(changes: dict[str, str]) -> None:
    store_books(many(3))
    books = many(3, **changes)
    blocked = storage._UPSERT_EDITIONS if changes else storage._RENEW_UNCHANGED
    tries = []

    def let_go(execute: Any, sql: str, *args: Any) -> Any:
        if sql == blocked:
            tries.append(sql)
            if len(tries) == 2:
                holder.rollback()
        return execute(sql, *args)

    holder = connection.copy()
    holder.set_autocommit(False)
    try:
        holder.cursor().execute("SELECT FROM enrichment_edition FOR UPDATE")
        connection.cursor().execute("SET lock_timeout = '50ms'")
        with connection.execute_wrapper(let_go):
            assert store_books(books) == (StoreResult(updated=3) if changes else StoreResult(unchanged=3))
    finally:
        holder.close()
        connection.close()
    assert len(tries) == 2


def test_a_read_only_database_raises_an_operational_error() -> None:
    connection.cursor().execute("SET default_transaction_read_only = on")
    try:
        for write in (lambda: store_books(many(1)), lambda: remember_misses([DUNE])):
            with pytest.raises(OperationalError, match="no writes"):
                write()
    finally:
        connection.close()
