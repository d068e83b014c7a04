"""Ways to store a batch of books, for upsert.py. All do what store_books does, except COPY, which does a part of it."""

import itertools
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from django.db import connection, transaction
from msgspec.structs import replace
from stdnum import ean

from alexandria.development.sandbox import answers, catalogue
from enrichment.books.fields import COLUMNS, Book
from enrichment.books.match_keys import name_key, title_key
from enrichment.books.storage import StoreResult, column_values, store_books
from enrichment.models import Author, Edition, EditionAuthor, Miss, Work

BATCH = 1000


def answers_of_isbndb() -> Iterator[bytes]:
    """Answers with 1,000 invented books of the sandbox, about 1.4 KB of JSON each, all with different ISBNs."""
    numbers = random.Random(2).sample(range(10**9), 10**5)
    isbns = (f"978{number:09d}" for number in numbers)
    found = filter(None, (catalogue.find(isbn + ean.calc_check_digit(isbn)) for isbn in isbns))
    while batch := [answers.book_json(each) for each in itertools.islice(found, BATCH)]:
        yield json.dumps({"data": batch}).encode()


def store_new(books: list[Book]) -> None:
    assert store_books(books) == StoreResult(created=len(books))


def store_unchanged(books: list[Book]) -> None:
    assert store_books(books) == StoreResult(unchanged=len(books))


def store_changed(books: list[Book]) -> None:
    assert store_books(books) == StoreResult(updated=len(books))


def changed(books: list[Book]) -> list[Book]:
    """The same books with other content."""
    return [replace(book, edition="another", content_hash=uuid4()) for book in books]


def orm_loop(books: list[Book]) -> None:
    """Stores book by book, all in one transaction, which is the fastest form of a loop."""
    now = datetime.now(UTC)
    with transaction.atomic():
        for book in books:
            keys = [name_key(name) for name in book.authors]
            work_title, work_author = _work_key(book, keys)
            work, _ = Work.objects.get_or_create(
                title_key=work_title, author_key=work_author, defaults={"title": book.title}
            )
            columns = _columns(book) | {"work": work, "synced_at": now, "updated_at": now}
            edition, _ = Edition.objects.update_or_create(
                isbn13=columns.pop("isbn13"), defaults=columns, create_defaults=columns | {"created_at": now}
            )
            EditionAuthor.objects.filter(edition=edition).delete()
            for position, (key, name) in enumerate(zip(keys, book.authors, strict=True), start=1):
                author, _ = Author.objects.get_or_create(name_key=key, defaults={"name": name})
                EditionAuthor.objects.create(edition=edition, author=author, position=position)
            Miss.objects.filter(isbn13=book.isbn13).delete()


def bulk_create(books: list[Book]) -> None:
    """Stores table by table, all in one transaction. Unchanged editions stay unchanged here too."""
    with transaction.atomic():
        stored = dict(
            Edition.objects.filter(isbn13__in=[book.isbn13 for book in books]).values_list("isbn13", "content_hash")
        )
        changed = [book for book in books if stored.get(book.isbn13) != book.content_hash]
        keys = {book.isbn13: [name_key(name) for name in book.authors] for book in changed}
        author_ids = _bulk_create_authors(changed)
        work_ids = _bulk_create_works(changed, keys)
        _bulk_create_editions(changed, {book.isbn13: work_ids[_work_key(book, keys[book.isbn13])] for book in changed})
        Edition.objects.filter(isbn13__in=stored).update(synced_at=datetime.now(UTC))
        EditionAuthor.objects.filter(edition__in=stored.keys() & keys.keys()).delete()
        EditionAuthor.objects.bulk_create(
            EditionAuthor(edition_id=isbn13, author_id=author_ids[key], position=position)
            for isbn13, authors in keys.items()
            for position, key in enumerate(authors, start=1)
        )
        Miss.objects.filter(isbn13__in=[book.isbn13 for book in books]).delete()


def _bulk_create_authors(books: list[Book]) -> dict[str, int]:
    names = {name_key(name): name for book in books for name in book.authors}
    Author.objects.bulk_create((Author(name_key=key, name=name) for key, name in names.items()), ignore_conflicts=True)
    return dict(Author.objects.filter(name_key__in=names).values_list("name_key", "pk"))


def _bulk_create_works(books: list[Book], keys: dict[str, list[str]]) -> dict[tuple[str, str], int]:
    works = {_work_key(book, keys[book.isbn13]): book.title for book in books}
    Work.objects.bulk_create(
        (Work(title_key=title, author_key=author, title=name) for (title, author), name in works.items()),
        ignore_conflicts=True,
    )
    found = Work.objects.filter(title_key__in={title for title, _ in works})
    return {(work.title_key, work.author_key): work.pk for work in found}


def _bulk_create_editions(books: list[Book], work_ids: dict[str, int]) -> None:
    now = datetime.now(UTC)
    times = {"synced_at": now, "created_at": now, "updated_at": now}
    Edition.objects.bulk_create(
        (Edition(**_columns(book), work_id=work_ids[book.isbn13], **times) for book in books),
        update_conflicts=True,
        unique_fields=["isbn13"],
        update_fields=[*COLUMNS[1:], "work", "synced_at", "updated_at"],
    )


def copy_editions(books: list[Book]) -> None:
    """Copies the same columns into the table of editions with COPY: no authors, works or links, and only new ISBNs."""
    now = datetime.now(UTC)
    columns = ", ".join((*COLUMNS, "work_id", "synced_at", "created_at", "updated_at"))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT max(id) FROM enrichment_work")
        [work] = cursor.fetchone()
        with cursor.copy(f"COPY enrichment_edition ({columns}) FROM STDIN") as copy:
            for book in books:
                copy.write_row((*column_values(book), work, now, now, now))


def _columns(book: Book) -> dict[str, Any]:
    return {name: getattr(book, name) for name in COLUMNS} | {"raw": json.loads(book.raw)}


def _work_key(book: Book, keys: list[str]) -> tuple[str, str]:
    return title_key(book.title, book.title_long) if book.title else book.isbn13, keys[0] if keys else book.isbn13
