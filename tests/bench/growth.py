"""Whether a decision, a look-up, the dashboard and a search slow down as the journal and the catalogue grow.

`python -m tests.bench.growth` creates its own database, fills it step by step, and measures each operation after each
step. A ratio compares an operation with what it was in the smallest database. Both are divided by the time of the
log-in page, which reads no table, because a machine is not equally busy for an hour. It exits with 1 when a ratio
is too high.

Unless told otherwise, the steps are small. `--full` takes 400 days and 10 million editions, 20 GB of disk and an hour;
`--full 3000000` stops at so many editions.
"""

import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.bench.scratch import scratch_database  # isort: skip (first: it sets Django up)

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, override_settings

from quota.models import Consumer, ConsumerKey, DailyLedger
from quota.prices import RequestKind
from quota.services import reservations
from tests.alexandria.admin import long_history

CALLS_A_DAY = 13_000
SMALL = {"days": (1, 30), "editions": (1_000, 100_000)}
FULL = {"days": (1, 30, 400), "editions": (1_000, 1_000_000, 10_000_000)}
ROUNDS = 15
FOR_WORDS = "search of the admin for words"
AT_MOST = 2.0
"""Times the ratio of the smallest database, except for a search for words: it may take 2 seconds, and then is a 503."""

BOOK_TABLES = ("enrichment_editionauthor", "enrichment_edition", "enrichment_work", "enrichment_author")
"""Those that refer to others come first."""
SHORT_HISTORY = ("quota_call", "quota_reservation", "quota_refusal", "quota_consumerusage", "quota_dailyledger")

WORDS = """
    CREATE TABLE bench_word AS SELECT n AS id, (
        SELECT string_agg(substr('bdfgklmnprstvz', 1 + (random() * 13)::int, 1)
            || substr('aeiou', 1 + (random() * 4)::int, 1), '')
        FROM generate_series(1, 2 + n % 3)
    ) AS word FROM generate_series(0, 19999) AS n"""
ISBN = """
    CREATE FUNCTION bench_isbn(number bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
        SELECT (978000000000 + number) || ((10 - (
            SELECT sum(substr((978000000000 + number)::text, place, 1)::int * CASE place % 2 WHEN 1 THEN 1 ELSE 3 END)
            FROM generate_series(1, 12) AS place
        ) % 10) % 10)::text
    $$"""
# As in real titles and names, few words are frequent, and most are rare.
AUTHORS = """
    INSERT INTO enrichment_author (id, name, name_key)
    SELECT n, initcap(first.word || ' ' || last.word || ' ' || n), first.word || ' ' || last.word || ' ' || n
    FROM (
        SELECT n, floor(1000 * random() ^ 2)::int AS a, floor(20000 * random() ^ 2)::int AS b
        FROM generate_series(1 + %(from)s / 5, %(to)s / 5) AS n
    ) AS drawn JOIN bench_word AS first ON first.id = a JOIN bench_word AS last ON last.id = b"""
WORKS = """
    INSERT INTO enrichment_work (id, title, title_key, author_key)
    SELECT n, initcap(words), words, 'author ' || n / 3
    FROM (
        SELECT n, concat_ws(' ', one.word, two.word, three.word, four.word) AS words
        FROM (
            SELECT n, floor(20000 * random() ^ 3)::int AS a, floor(20000 * random() ^ 3)::int AS b,
                floor(20000 * random() ^ 3)::int AS c, floor(20000 * random() ^ 3)::int AS d
            FROM generate_series(%(from)s + 1, %(to)s) AS n
        ) AS drawn JOIN bench_word AS one ON one.id = a JOIN bench_word AS two ON two.id = b
            JOIN bench_word AS three ON three.id = c JOIN bench_word AS four ON four.id = d
    ) AS titles"""
EDITIONS = """
    INSERT INTO enrichment_edition (isbn13, isbn10, work_id, title, title_long, publisher, language, binding, edition,
        pages, date_published, date_precision, dewey_decimal, subjects, msrp, image, dimensions, synopsis, overview,
        excerpt, other_isbns, raw, content_hash, synced_at, created_at, updated_at)
    SELECT bench_isbn(id), '', id, title, '', 'Publisher ' || id %% 5000, 'en', 'Hardcover', '', 320,
        date '1970-01-01' + (random() * 20000)::int, 'day', '{}', ARRAY['Fiction', 'Subject ' || id %% 3000], 28.99,
        '', '', '', '', '', '{}', '{"title": "as ISBNdb sends it"}', gen_random_uuid(), at, at, at
    FROM (
        SELECT id, title, now() - random() * interval '400 days' AS at FROM enrichment_work WHERE id > %(from)s
    ) AS works"""
LINKS = """
    INSERT INTO enrichment_editionauthor (edition_id, position, author_id)
    SELECT bench_isbn(id), 1, 1 + id %% (%(to)s / 5) FROM enrichment_work WHERE id > %(from)s"""


@dataclass(frozen=True)
class Size:
    days: int
    editions: int

    def __str__(self) -> str:
        return f"{self.days} days, {self.editions:,} editions"


Figures = dict[str, tuple[float, float]]
"""By operation: the median of its seconds, and of its ratio to the log-in page."""


def run(days: Sequence[int] = SMALL["days"], editions: Sequence[int] = SMALL["editions"]) -> bool:
    """Prints the figures. False when an operation slows down too much."""
    logging.disable(logging.ERROR)
    simple_files = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }
    with scratch_database(), override_settings(STORAGES=simple_files, API_REQUESTS_PER_MINUTE=0):
        consumers = [Consumer.objects.create(slug=f"reader-{number}") for number in range(5)]
        _, key = ConsumerKey.objects.create_key(name="bench", consumer=consumers[0])
        prepare()
        figures: dict[Size, Figures] = {}
        stored = 0
        for size in [Size(each, editions[0]) for each in days] + [Size(days[-1], each) for each in editions[1:]]:
            began = time.monotonic()
            if size.days != max((each.days for each in figures), default=0):
                remake_history(size.days, [consumer.pk for consumer in consumers])
            add_books(stored, size.editions)
            stored = size.editions
            made = time.monotonic()
            figures[size] = measure(operations(key, stored))
            print(f"  {size}: made in {made - began:.0f} s, measured in {time.monotonic() - made:.0f} s", flush=True)
    return show(figures)


def show(figures: dict[Size, Figures]) -> bool:
    first, *_ = figures
    good = True
    print(f"\nGrowth, {CALLS_A_DAY:,} calls a day. Each ratio is to {first} (at most {AT_MOST}):")
    for name in figures[first]:
        print(f"  {name}")
        for size, each in figures.items():
            seconds, share = each[name]
            ratio = share / figures[first][name][1]
            good &= ratio <= AT_MOST or name.startswith(FOR_WORDS)
            print(f"    {size!s:32} {1000 * seconds:9.1f} ms   ratio {ratio:.2f}")
    return good


def operations(key: str, editions: int) -> dict[str, Callable[[], None]]:
    api, admin = Client(headers={"Authorization": f"Api-Key {key}"}), Client()
    user, _ = User.objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
    admin.force_login(user)
    with connection.cursor() as cursor:
        cursor.execute("SELECT title FROM enrichment_work WHERE id = %s", [editions // 2])
        title = cursor.fetchone()[0]
        cursor.execute("SELECT word FROM bench_word WHERE id = 0")
        frequent = cursor.fetchone()[0]
        cursor.execute("SELECT bench_isbn(%s)", [editions // 2])
        isbn = cursor.fetchone()[0]

    def get(client: Client, path: str, **query: str) -> Callable[[], None]:
        def ask() -> None:
            response = client.get(path, query, secure=True, HTTP_HOST="localhost")
            assert response.status_code in {200, 503 if "q" in query else 200}, (
                path,
                query,
                response.status_code,
                response.content[:300],
            )

        return ask

    return {
        "a decision": decide,
        "GET /api/books/{isbn}": get(api, f"/api/books/{isbn}"),
        "the dashboard": get(admin, "/admin/"),
        "the journal in the admin": get(admin, "/admin/quota/call/"),
        "search of the admin for an ISBN": get(admin, "/admin/enrichment/edition/", q=isbn),
        f"{FOR_WORDS}: a title": get(admin, "/admin/enrichment/edition/", q=title),
        f"{FOR_WORDS}: the most frequent one": get(admin, "/admin/enrichment/edition/", q=frequent),
    }


def decide() -> None:
    reservations.reserve_and_dispatch(
        consumer="reader-1", operation="bench", calls=1, kind=RequestKind.BATCH, method="POST", path="/books",
        isbns_asked=1000,
    )  # fmt: skip


def measure(work: dict[str, Callable[[], None]]) -> Figures:
    """All operations in turn, each next to the log-in page. The first two rounds warm the caches."""
    nobody = Client()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    ratios: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS + 2):
        for name, operation in work.items():
            yardstick = timed(lambda: nobody.get("/admin/login/", secure=True, HTTP_HOST="localhost"))
            seconds[name].append(timed(operation))
            ratios[name].append(seconds[name][-1] / yardstick)
    return {name: (statistics.median(seconds[name][2:]), statistics.median(ratios[name][2:])) for name in work}


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def prepare() -> None:
    """Lets the database be filled fast: nothing of it has to survive a crash."""
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{connection.settings_dict["NAME"]}" SET synchronous_commit = off')
        for setting in ("statement_timeout = 0", "maintenance_work_mem = '1GB'", "synchronous_commit = off"):
            cursor.execute(f"SET {setting}")
        for table in BOOK_TABLES:
            cursor.execute(f"ALTER TABLE {table} SET UNLOGGED")
        cursor.execute("SELECT setseed(0.5)")
        cursor.execute(WORDS)
        cursor.execute(ISBN)


def remake_history(days: int, consumers: list[int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(SHORT_HISTORY)} CASCADE")
    long_history.fill(
        today=datetime.now(UTC).date(), consumers=consumers, days=days, calls_a_day=CALLS_A_DAY, rows_a_day=20
    )
    DailyLedger.objects.update(daily_limit=1_000_000_000, max_rps=1_000_000)  # no decision is refused or waits


def add_books(stored: int, wanted: int) -> None:
    """Adds editions, each with a work of its own and an author, until there are so many."""
    if wanted <= stored:
        return
    with connection.cursor() as cursor, without_indexes():
        cursor.execute("SET session_replication_role = replica")  # no check of foreign keys, row by row
        for statement in (AUTHORS, WORKS, EDITIONS, LINKS):
            cursor.execute(statement, {"from": stored, "to": wanted})
        cursor.execute("RESET session_replication_role")
    with connection.cursor() as cursor:
        for table in BOOK_TABLES:
            cursor.execute(f"VACUUM ANALYZE {table}")


@contextmanager
def without_indexes() -> Iterator[None]:
    """Makes the indexes of the books again at the end, which is much faster than to keep them up to date."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE contype = 'u' AND conrelid = ANY(%s::regclass[])",
            [list(BOOK_TABLES)],
        )
        constraints = cursor.fetchall()
        for table, name, _ in constraints:
            cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        cursor.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "
            "WHERE NOT indisprimary AND indrelid = ANY(%s::regclass[])",
            [list(BOOK_TABLES)],
        )
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
        yield
        for _, definition in indexes:
            cursor.execute(definition)
        for table, name, definition in constraints:
            cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")


if __name__ == "__main__":
    if "--full" not in sys.argv:
        sys.exit(0 if run() else 1)
    most = int(sys.argv[-1]) if sys.argv[-1].isdecimal() else FULL["editions"][-1]
    sys.exit(0 if run(FULL["days"], [*(each for each in FULL["editions"] if each < most), most]) else 1)
