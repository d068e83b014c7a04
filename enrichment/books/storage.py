"""The set-based upsert of books: it stores a whole batch with a few statements.

First, the editions that are stored with the same content get a new time, in a transaction of their own: most books of
a refresh are such, and their content need not be sent. The others are copied into a temporary table; from there, one
statement fills each table.

Two workers with overlapping batches wait for each other but cannot deadlock, because every transaction takes its locks
in one order: authors by key, works by key, editions by ISBN, misses by ISBN. (The lock on an edition also protects its
links.)
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

import structlog
from django.db import DatabaseError, DataError, IntegrityError, OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

from alexandria.common.database import READ_ONLY, sqlstate
from enrichment.books.fields import COLUMNS, Book
from enrichment.books.following import BEGIN_STORING
from enrichment.books.match_keys import name_key, title_key
from enrichment.books.misses import pauses

Written = TypeVar("Written")
log = structlog.get_logger(__name__)

_LIST = ", ".join(COLUMNS)
_values: Callable[[Book], tuple[object, ...]] = attrgetter(*COLUMNS)

# S608: only names of columns go into these statements.
# With this target, rows up to 8 KB are not compressed here, but once, in the edition, in the way of its column.
_CREATE_INCOMING = f"""
    CREATE TEMPORARY TABLE incoming WITH (toast_tuple_target = 8160) AS
    SELECT {_LIST}, '' COLLATE "C" AS title_key, '' COLLATE "C" AS author_key,
        '{{}}'::text[] COLLATE "C" AS author_keys, '{{}}'::text[] AS author_names
    FROM enrichment_edition WITH NO DATA"""  # noqa: S608
_COPY_INCOMING = f"COPY incoming ({_LIST}, title_key, author_key, author_keys, author_names) FROM STDIN"
_INSERT_AUTHORS = """
    INSERT INTO enrichment_author (name_key, name)
    SELECT DISTINCT ON (key) key, name
    FROM incoming, unnest(author_keys, author_names) AS author (key, name)
    ORDER BY key, isbn13
    ON CONFLICT (name_key) DO NOTHING"""
_INSERT_WORKS = """
    INSERT INTO enrichment_work (title_key, author_key, title)
    SELECT DISTINCT ON (title_key, author_key) title_key, author_key, title
    FROM incoming
    ORDER BY title_key, author_key, isbn13
    ON CONFLICT (title_key, author_key) DO NOTHING"""
# Ids are looked up row by row: with a join, the planner, which has no statistics of `incoming`, would hash all works.
# Rows that the last WHERE leaves unchanged are locked too, in the same order.
# `updated_at` must be later than BEGIN_STORING: see following.py.
_UPSERT_EDITIONS = f"""
    INSERT INTO enrichment_edition ({_LIST}, work_id, synced_at, created_at, updated_at)
    SELECT {_LIST},
        (SELECT id FROM enrichment_work AS work
         WHERE work.title_key = incoming.title_key AND work.author_key = incoming.author_key),
        COALESCE(%s, now()), statement_timestamp(), statement_timestamp()
    FROM incoming
    ORDER BY isbn13
    ON CONFLICT (isbn13) DO UPDATE
    SET {", ".join(f"{name} = EXCLUDED.{name}" for name in (*COLUMNS, "work_id", "synced_at", "updated_at"))},
        named_at = NULL
    WHERE enrichment_edition.content_hash <> EXCLUDED.content_hash
    RETURNING isbn13, xmax = 0"""  # noqa: S608 (xmax is 0 in a row that is new)
_FORGET_MISSES = """
    DELETE FROM enrichment_miss WHERE isbn13 = ANY (ARRAY(
        SELECT isbn13 FROM enrichment_miss WHERE isbn13 = ANY(%s) ORDER BY isbn13 FOR UPDATE))"""
# An edition cannot have the hash of another book of the batch, because the hash covers the ISBN.
_RENEW_UNCHANGED = """
    UPDATE enrichment_edition SET synced_at = COALESCE(%s, now()), named_at = NULL WHERE isbn13 = ANY (ARRAY(
        SELECT isbn13 FROM enrichment_edition WHERE isbn13 = ANY(%s) AND content_hash = ANY(%s)
        ORDER BY isbn13 FOR NO KEY UPDATE))
    RETURNING isbn13"""
_DROP_INCOMING = "DROP TABLE incoming"
_DELETE_LINKS = "DELETE FROM enrichment_editionauthor WHERE edition_id = ANY(%s)"
_INSERT_LINKS = """
    INSERT INTO enrichment_editionauthor (edition_id, position, author_id)
    SELECT isbn13, position, (SELECT id FROM enrichment_author WHERE name_key = key)
    FROM incoming, unnest(author_keys) WITH ORDINALITY AS link (key, position)
    WHERE isbn13 = ANY(%s)
    ORDER BY isbn13, position"""
# Only an answer after the pause of the step is a further one: a refresh a minute later says nothing new.
_NEXT_STEP = """CASE
        WHEN %(doubtful)s THEN 1
        WHEN EXCLUDED.asked_at < miss.asked_at + (%(pauses)s::interval[])[miss.step] THEN miss.step
        ELSE least(miss.step + 1, 3) END"""
_REMEMBER_MISSES = f"""
    INSERT INTO enrichment_miss AS miss (isbn13, asked_at, step)
    SELECT isbn13, COALESCE(%(asked_at)s, now()), 1 FROM unnest(%(isbns)s::text[]) AS asked (isbn13) ORDER BY isbn13
    ON CONFLICT (isbn13) DO UPDATE SET asked_at = EXCLUDED.asked_at, named_at = NULL, step = {_NEXT_STEP}"""  # noqa: S608
_REMEMBER_AUTHOR_MISSES = f"""
    INSERT INTO enrichment_authormiss AS miss (name, asked_at, step) VALUES (%(name)s, now(), 1)
    ON CONFLICT (name) DO UPDATE SET asked_at = EXCLUDED.asked_at, step = {_NEXT_STEP}"""  # noqa: S608
_MARK_NAMED = [
    f"""
    UPDATE {table} SET named_at = now() WHERE isbn13 = ANY (ARRAY(
        SELECT isbn13 FROM {table} WHERE isbn13 = ANY(%s) ORDER BY isbn13 FOR NO KEY UPDATE))"""  # noqa: S608
    for table in ("enrichment_edition", "enrichment_miss")
]
_PROGRAM_LIMIT_EXCEEDED = "54"  # SQLSTATE class: too deeply nested, too large
_LOCKED = ("40", "55P03")  # SQLSTATEs of conflicts with other transactions: deadlock and the like, lock timeout
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class StoreError:
    """A book that the database refused, and the first line of its error message."""

    isbn: str
    error: str


@dataclass(slots=True)
class StoreResult:
    """The number of new, changed and unchanged editions, and the books that could not be stored."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    errors: list[StoreError] = field(default_factory=list)


def store_books(books: Iterable[Book], *, synced_at: datetime | None = None) -> StoreResult:
    """Stores up to about 1,000 books, with their works, authors and links, in two short transactions of its own.

    When two books have one ISBN, the later one is stored. The first transaction gives the editions with the same
    content as before a new `synced_at` (the time of the transaction by default), the second one stores the other books.
    Remembered misses of the ISBNs are deleted.

    When the database refuses the data of some books, these are halved and tried again, down to single books; a book
    that is refused alone is reported. When locks of other transactions prevent the write, it is retried, because the
    call for the answer is already spent.
    Raises RuntimeError inside a transaction, and OperationalError like any query.
    """
    batch = list({book.isbn13: book for book in books}.values())
    if not batch:
        return StoreResult()
    renewed = _retried(partial(_renew_unchanged, batch, synced_at))
    result = StoreResult(unchanged=len(renewed))
    others = [book for book in batch if book.isbn13 not in renewed]
    parts = [others] if others else []
    while parts:
        part = parts.pop()
        try:
            _retried(partial(_store, part, synced_at, result))
        except DatabaseError as error:
            if not _is_about_the_data(error):
                raise
            if len(part) == 1:
                result.errors.append(StoreError(isbn=part[0].isbn13, error=str(error).partition("\n")[0]))
            else:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
    return result


def remember_misses(isbns: Iterable[str], *, doubtful: bool = False, asked_at: datetime | None = None) -> None:
    """Records ISBN-13s that ISBNdb does not know, as of `asked_at` (now by default), in a transaction of its own.

    `doubtful`: ISBNdb may know one of them after all, so they begin again with the first step of misses.py.
    Raises IntegrityError when a value is not an ISBN-13, and OperationalError like `store_books`.
    """
    parameters: dict[str, Any] = {
        "isbns": sorted(set(isbns)),
        "doubtful": doubtful,
        "asked_at": asked_at,
        "pauses": pauses(),
    }
    _retried(partial(_remember, parameters))


def remember_author_miss(name: str) -> None:
    """Records, like `remember_misses`, that ISBNdb does not know an author by this name, in any transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_REMEMBER_AUTHOR_MISSES, {"name": name, "doubtful": False, "pauses": pauses()})


def mark_named(isbns: Iterable[str]) -> None:
    """Marks those editions and misses that ISBNdb's feed names, in a transaction of its own.

    They are due until ISBNdb has been asked for them again. Raises OperationalError like `store_books`.
    """
    _retried(partial(_mark, list(isbns)))


def _remember(parameters: dict[str, Any]) -> None:
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(_REMEMBER_MISSES, parameters)


def _mark(isbns: list[str]) -> None:
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        for statement in _MARK_NAMED:
            cursor.execute(statement, [isbns])


def _retried(write: Callable[[], Written]) -> Written:
    """Calls `write`, a transaction, up to _ATTEMPTS times as long as other transactions' locks prevent it."""
    attempt = 1
    while True:
        try:
            return write()
        except DatabaseError as error:
            if sqlstate(error) == READ_ONLY:  # Django does not raise an OperationalError for it
                raise OperationalError("The database accepts no writes at present.") from error
            if not sqlstate(error).startswith(_LOCKED) or attempt == _ATTEMPTS:
                raise
            log.warning("books.locks_in_the_way", attempt=attempt, sqlstate=sqlstate(error))
        attempt += 1


def _renew_unchanged(books: Sequence[Book], synced_at: datetime | None) -> set[str]:
    """Gives the editions with the content of `books` a new time. Returns their ISBN-13s."""
    isbns, hashes = _array([book.isbn13 for book in books]), _array([book.content_hash.hex for book in books])
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(_RENEW_UNCHANGED, [synced_at, isbns, hashes])
        renewed = [isbn13 for (isbn13,) in cursor.fetchall()]
        if renewed:
            cursor.execute(_FORGET_MISSES, [_array(renewed)])
    return set(renewed)


def _store(books: Sequence[Book], synced_at: datetime | None, result: StoreResult) -> None:
    """Stores all of `books` and adds the counts to `result`, or raises and stores none.

    An edition that another worker has just given the same content counts as unchanged.
    """
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(BEGIN_STORING)
        cursor.execute(_CREATE_INCOMING)
        _copy(cursor, books)
        cursor.execute(_INSERT_AUTHORS)
        cursor.execute(_INSERT_WORKS)
        cursor.execute(_UPSERT_EDITIONS, [synced_at])
        is_new: dict[str, bool] = dict(cursor.fetchall())
        cursor.execute(_FORGET_MISSES, [_array([book.isbn13 for book in books])])
        updated = [isbn13 for isbn13, new in is_new.items() if not new]
        if updated:
            cursor.execute(_DELETE_LINKS, [_array(updated)])
        cursor.execute(_INSERT_LINKS, [_array(list(is_new))])
        cursor.execute(_DROP_INCOMING)
    result.created += len(is_new) - len(updated)
    result.updated += len(updated)
    result.unchanged += len(books) - len(is_new)


def _copy(cursor: CursorWrapper, books: Sequence[Book]) -> None:
    with connection.wrap_database_errors, cursor.copy(_COPY_INCOMING) as copy:
        for book in books:
            keys = [name_key(name) for name in book.authors]
            copy.write_row(
                (
                    *column_values(book),
                    title_key(book.title, book.title_long) if book.title else book.isbn13,
                    keys[0] if keys else book.isbn13,
                    _array(keys),
                    _array(book.authors),
                )
            )


def column_values(book: Book) -> list[object]:
    """The values of COLUMNS for `book`, in the form that psycopg's COPY takes."""
    return [_array(value) if isinstance(value, list) else value for value in _values(book)]


def _array(texts: list[str]) -> str:
    """PostgreSQL's notation of an array. psycopg writes the same, but takes many times as long for it."""
    if not texts:
        return "{}"
    escaped = [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    return '{"' + '","'.join(escaped) + '"}'


def _is_about_the_data(error: DatabaseError) -> bool:
    return isinstance(error, DataError | IntegrityError) or sqlstate(error).startswith(_PROGRAM_LIMIT_EXCEEDED)
