"""Measures exports of many books: time, size and memory. `python -m tests.bench.export [books [format …]]`.

By default, it exports 100,000 books in all formats. It makes the books in a database of its own, and runs `manage.py
export_books` for each format in a process of its own. The second run, over a hundredth of the books, shows that the
memory does not grow with them. It exits with 1 if it does.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.scratch import scratch_database  # isort: skip (first: it sets Django up)

from django.db import connection

from alexandria.env import BASE_DIR
from enrichment.exports.formats import FORMATS
from tests import processes

BOOKS = 100_000
MAX_GROWTH_MB = 30
"""Between the two runs. A million books more would be gigabytes."""

AUTHORS = """
    INSERT INTO enrichment_author (name, name_key)
    SELECT 'Author ' || n, 'author ' || n FROM generate_series(1, %s) AS n"""
WORKS = """
    INSERT INTO enrichment_work (title, title_key, author_key)
    SELECT 'Work ' || n, 'work ' || n, 'author ' || n FROM generate_series(1, %s) AS n"""
# A synopsis is as long as ISBNdb's usually are. The check digit does not matter here.
EDITIONS = """
    INSERT INTO enrichment_edition (isbn13, isbn10, work_id, title, title_long, publisher, language, binding, edition,
        pages, date_published, date_precision, dewey_decimal, subjects, msrp, image, dimensions, synopsis, overview,
        excerpt, other_isbns, raw, content_hash, synced_at, created_at, updated_at)
    SELECT (9780000000000 + n)::text, '', 1 + n / 2, 'The Title ' || n, 'The Title ' || n || ': A Novel', 'Publisher',
        'en_US', 'Hardcover', '', 320, date '2020-05-04', 'day', '{813.6}', '{Fiction,"Science fiction","Émigrés"}',
        28.99, 'https://images.isbndb.com/covers/' || n || '.jpg', 'Height: 9.5 Inches, Length: 1.2 Inches',
        repeat('A synopsis with <b>some</b> words &amp; more of them. ', 20), '', '', '{}',
        jsonb_build_object('title', 'The Title ' || n), gen_random_uuid(), now(), now(), now()
    FROM generate_series(1, %s) AS n"""
LINKS = """
    INSERT INTO enrichment_editionauthor (edition_id, position, author_id)
    SELECT isbn13, position, 1 + (work_id + position) %% %s
    FROM enrichment_edition, generate_series(1, 2) AS position"""


def make_books(count: int) -> None:
    half = max(2, count // 2)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        for statement, number in ((AUTHORS, half), (WORKS, half + 1), (EDITIONS, count), (LINKS, half)):
            cursor.execute(statement, [number])
        for table in ("edition", "editionauthor", "author", "work"):
            cursor.execute(f"ANALYZE enrichment_{table}")


def delete_books(but: int) -> None:
    with connection.cursor() as cursor:
        last = str(9780000000000 + but)
        cursor.execute("DELETE FROM enrichment_editionauthor WHERE edition_id > %s", [last])
        cursor.execute("DELETE FROM enrichment_edition WHERE isbn13 > %s", [last])


def measure(name: str) -> tuple[float, int, float]:
    """Seconds, bytes of the file, and the highest memory of the process in MB."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "books"
        command = [sys.executable, "manage.py", "export_books", "--format", name, "--output", str(file)]
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=BASE_DIR, env=processes.environment(), stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        assert status == 0
        return time.perf_counter() - started, file.stat().st_size, used.ru_maxrss / 1024


def run(books: int = BOOKS, names: Sequence[str] = tuple(FORMATS)) -> bool:
    """Prints the figures. False when the memory grows with the books."""
    with scratch_database():
        make_books(books)
        print(f"exports of {books:,} books:")
        print(f"  {'':10} {'seconds':>9} {'books/s':>9} {'MB':>9} {'memory, MB':>12} {'of a hundredth':>16}")
        many = {name: measure(name) for name in names}
        delete_books(but=books // 100)
        few = {name: measure(name) for name in names}
    good = True
    for name, (seconds, size, memory) in many.items():
        rate, less = books / seconds, few[name][2]
        print(f"  {name:10} {seconds:9,.0f} {rate:9,.0f} {size / 1e6:9,.0f} {memory:12,.0f} {less:16,.0f}")
        good &= memory - less <= MAX_GROWTH_MB
    return good


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(0 if run(int(given[0]) if given else BOOKS, given[1:] or tuple(FORMATS)) else 1)
