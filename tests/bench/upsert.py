"""Measures the set-based upsert of new books against an ORM loop, bulk_create, and a raw COPY of the editions.

`python -m tests.bench.upsert` creates its own database and prints books per second and ratios. It exits with 1 when a
ratio is too low. upsert_ways.py has the compared functions.
"""

import statistics
import sys
import time

from tests.bench.scratch import scratch_database  # isort: skip (first: it sets Django up)

from tests.bench.upsert_ways import bulk_create, copy_editions, fresh_batches, orm_loop, set_based

ROUNDS = 15
SLOW_ROUNDS = 3  # for the ORM loop, which takes seconds for a batch
WANTED = {orm_loop: 10.0, bulk_create: 2.0, copy_editions: 0.4}
Seconds = dict[str, list[float]]


def measure() -> Seconds:
    """Seconds per book, by function and round. The functions take turns, each with new books."""
    batches = fresh_batches()
    quick = [set_based, bulk_create, copy_editions]
    for way in quick:
        way(next(batches))  # connects and fills the caches
    seconds: Seconds = {}
    for number in range(ROUNDS):
        for way in [*quick, orm_loop] if number < SLOW_ROUNDS else quick:
            books = next(batches)
            started = time.perf_counter()
            way(books)
            seconds.setdefault(way.__name__, []).append((time.perf_counter() - started) / len(books))
    return seconds


def run() -> bool:
    """Prints the figures. False when a ratio is too low; a ratio is the median of the ratios of all rounds."""
    with scratch_database():
        seconds = measure()
    ours = seconds[set_based.__name__]
    print(f"upsert of fresh books, with authors, works and links: {1 / statistics.median(ours):,.0f} books/s")
    good = True
    for way, wanted in WANTED.items():
        theirs = seconds[way.__name__]
        ratio = statistics.median(their / our for their, our in zip(theirs, ours, strict=False))
        good &= ratio >= wanted
        rate = 1 / statistics.median(theirs)
        print(f"  {way.__name__:13} {rate:8,.0f} books/s, ratio {ratio:6.2f} (at least {wanted})")
    return good


if __name__ == "__main__":
    sys.exit(0 if run() else 1)
