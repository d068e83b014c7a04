"""Measures how long POST /api/books/lookup takes for 1,000 stored books, next to one SELECT of the same rows.

`python -m tests.bench.lookup` creates its own database with 20,000 books, and prints the time of the whole request,
from the body to the last byte of the answer, as a ratio to the time of a SELECT that returns the same columns, with the
works and the authors. It exits with 1 when the ratio is too high.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from random import Random

from tests.bench.scratch import scratch_database  # isort: skip (first: it sets Django up)

from django.db import connection
from django.test import RequestFactory, override_settings

from enrichment.api.lookup import LookupView
from enrichment.books.decoding import decode_books
from enrichment.books.shown import SHOWN_FIELDS
from enrichment.books.storage import store_books
from enrichment.models import Edition
from quota.models import Consumer, ConsumerKey
from tests.bench import upsert_ways as ways

STORED, ISBNS, ROUNDS = 20_000, 1_000, 31
AT_MOST = 3.0
"""Times the time of the SELECT."""

_COLUMNS = ", ".join(f"edition.{name}" for name in SHOWN_FIELDS if name not in {"work", "authors"})
_AUTHORS = """
    SELECT array_agg({column} ORDER BY position)
    FROM enrichment_editionauthor AS link JOIN enrichment_author AS author ON author.id = author_id
    WHERE edition_id = isbn13"""
_SELECT = f"""
    SELECT {_COLUMNS}, work.id, work.title, ({_AUTHORS.format(column="author.id")}),
        ({_AUTHORS.format(column="author.name")})
    FROM enrichment_edition AS edition JOIN enrichment_work AS work ON work.id = work_id
    WHERE isbn13 = ANY(%s)"""  # noqa: S608 (names of columns)


def run() -> bool:
    """Prints the figures. False when the ratio, the median of all rounds, is too high."""
    with scratch_database(), override_settings(API_REQUESTS_PER_MINUTE=0):
        answers = ways.answers_of_isbndb()
        for _ in range(STORED // ways.BATCH):
            store_books(decode_books(next(answers), key="data").books)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        isbns = Random(1).sample(list(Edition.objects.values_list("pk", flat=True)), ISBNS)
        _, key = ConsumerKey.objects.create_key(name="bench", consumer=Consumer.objects.create(slug="bench"))
        seconds = measure(isbns, key)
    select = statistics.median(seconds["select"])
    print(f"\n{ISBNS:,} of {STORED:,} stored books, looked up by their ISBNs:")
    print(f"  one SELECT of their rows, works and authors {1000 * select:8.1f} ms")
    good = True
    for accept in ("application/json", "application/x-ndjson", "text/csv"):
        ratio = statistics.median(ours / its for ours, its in zip(seconds[accept], seconds["select"], strict=True))
        bound = ""
        if accept == "application/json":
            good, bound = ratio <= AT_MOST, f"  (at most {AT_MOST})"
        print(f"  as {accept:41} {1000 * statistics.median(seconds[accept]):7.1f} ms: {ratio:.2f} times{bound}")
    return good


def measure(isbns: list[str], key: str) -> dict[str, list[float]]:
    """Seconds by what is measured, and round. The first round fills the caches, and does not count."""
    view = LookupView.as_view()
    body = json.dumps({"isbns": isbns})

    def ask(accept: str) -> None:
        headers = {"Accept": accept, "Authorization": f"Api-Key {key}"}
        response = view(RequestFactory().post("/", body, content_type="application/json", headers=headers))
        sent = b"".join(response)
        assert response.status_code == 200, sent
        assert len(sent) > 100 * ISBNS

    def select() -> None:
        with connection.cursor() as cursor:
            cursor.execute(_SELECT, [isbns])
            assert len(cursor.fetchall()) == ISBNS

    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS + 1):
        timed(seconds, "select", select)
        for accept in ("application/json", "application/x-ndjson", "text/csv"):
            timed(seconds, accept, lambda: ask(accept))  # noqa: B023 (called at once)
    return {what: each[1:] for what, each in seconds.items()}


def timed(seconds: dict[str, list[float]], what: str, work: Callable[[], None]) -> None:
    started = time.perf_counter()
    work()
    seconds.setdefault(what, []).append(time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(0 if run() else 1)
