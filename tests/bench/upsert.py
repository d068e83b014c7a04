"""Measures how fast answers of ISBNdb become stored books, and compares it with other ways, among them a raw COPY.

`python -m tests.bench.upsert` creates its own database and prints books per second and ratios: how many times as long
each way takes as COPY takes to write the same columns of new editions alone. It exits with 1 when a ratio is too high.
upsert_ways.py has the compared ways.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable

from tests.bench.scratch import scratch_database  # isort: skip (first: it sets Django up)

from enrichment.books.decoding import decode_books
from enrichment.books.fields import Book
from tests.bench import upsert_ways as ways

ROUNDS = 15
SLOW_ROUNDS = 3  # for the ORM loop, which takes seconds for a batch
COPY, NEW = "COPY of the editions alone", "store new books"
DECODE, UNCHANGED, CHANGED = "decode", "store unchanged books", "store changed books"
BULK_CREATE, ORM_LOOP = "new books by bulk_create", "new books by an ORM loop"
ALL = "decode and store new books"
AT_MOST = {DECODE: 1.5, NEW: 2.5, UNCHANGED: 1.2, CHANGED: 4.0, ALL: 3.7}
"""How many times as long as COPY each step may take."""
AT_LEAST = {BULK_CREATE: 2.0, ORM_LOOP: 10.0}
"""How many times as long as our way these others must take."""


def measure() -> dict[str, list[float]]:
    """Seconds for a book, by step and round. The first round connects and fills the caches, and does not count."""
    seconds: dict[str, list[float]] = {}
    answers = ways.answers_of_isbndb()

    def timed(step: str, work: Callable[[], object], count: int) -> None:
        started = time.perf_counter()
        work()
        seconds.setdefault(step, []).append((time.perf_counter() - started) / count)

    def next_books() -> list[Book]:
        return decode_books(next(answers), key="data").books

    for number in range(-1, ROUNDS):
        answer = next(answers)
        books = decode_books(answer, key="data").books
        timed(DECODE, lambda: decode_books(answer, key="data"), len(books))  # noqa: B023 (called at once)
        for step, way, these in [
            (NEW, ways.store_new, books),
            (UNCHANGED, ways.store_unchanged, books),
            (CHANGED, ways.store_changed, ways.changed(books)),
            (COPY, ways.copy_editions, next_books()),
            (BULK_CREATE, ways.bulk_create, next_books()),
            *([(ORM_LOOP, ways.orm_loop, next_books())] if number < SLOW_ROUNDS else []),
        ]:
            timed(step, lambda: way(these), len(these))  # noqa: B023
    counted = {step: each[1:] for step, each in seconds.items()}
    counted[ALL] = [decode + store for decode, store in zip(counted[DECODE], counted[NEW], strict=True)]
    return counted


def run() -> bool:
    """Prints the figures. False when a ratio, the median of all rounds, is out of its bounds."""
    with scratch_database():
        seconds = measure()
    print(f"batches of {ways.BATCH:,} books, with authors, works, links and ISBNdb's JSON:")
    print(f"  {'':28} {'books/s':>9} {'batches/s':>10} {'time of COPY':>13}")
    good = True
    for step in (COPY, DECODE, NEW, UNCHANGED, CHANGED, ALL, BULK_CREATE, ORM_LOOP):
        ratio, rate = _ratio(seconds[step], seconds[COPY]), 1 / statistics.median(seconds[step])
        bound = ""
        if step in AT_MOST:
            good &= ratio <= AT_MOST[step]
            bound = f"  (at most {AT_MOST[step]})"
        elif step in AT_LEAST:
            to_ours = _ratio(seconds[step], seconds[NEW])
            good &= to_ours >= AT_LEAST[step]
            bound = f"  ({to_ours:.1f} of ours, at least {AT_LEAST[step]})"
        print(f"  {step:28} {rate:9,.0f} {rate / ways.BATCH:10.1f} {ratio:13.2f}{bound}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  The pace brings at most 3 batches a second. Memory of this process at its highest: {peak:,.0f} MB")
    return good


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=False))


if __name__ == "__main__":
    sys.exit(0 if run() else 1)
