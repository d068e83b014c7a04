"""One reserve-and-dispatch with its journal row, next to a bare UPDATE of the day's row, by 1 and by 16 clients.

`python -m tests.bench.dispatch` makes a database of its own, prints operations a second and ratios, and ends with 1
when a ratio is missed.
"""

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier

from tests.bench.scratch import scratch_database  # isort: skip (first: it sets Django up)

from django.db import connection

from quota.models import Consumer, DailyLedger
from quota.prices import RequestKind
from quota.services import reservations

WANTED = 0.5
ROUNDS = 15


def spend() -> None:
    reservations.reserve_and_dispatch(
        consumer="bench",
        operation="bench",
        calls=1,
        kind=RequestKind.BATCH,
        method="POST",
        path="/books",
        isbns_asked=1000,
    )


def bare_update() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE quota_dailyledger SET used = used + %s WHERE day = quota_day(quota_now())", [0])


WORK: tuple[Callable[[], None], ...] = (spend, bare_update)


def client(times: int, barrier: Barrier) -> None:
    for work in WORK * 20:
        work()  # connects, plans, warms the caches
    for _ in range(ROUNDS):
        for work in WORK:
            barrier.wait()
            for _ in range(times):
                work()
            barrier.wait()


def measure(clients: int, times: int) -> tuple[float, float, float]:
    """Runs both in turn, ROUNDS times; returns the median of either, in operations a second, and of their ratio."""
    connection.close()  # not to be shared with the children
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(clients + 1, timeout=120)
    processes = [fork.Process(target=client, args=(times, barrier)) for _ in range(clients)]
    for process in processes:
        process.start()
    rounds: list[list[float]] = []
    for _ in range(ROUNDS):
        rates = []
        for _ in WORK:
            barrier.wait()
            started = time.perf_counter()
            barrier.wait()
            rates.append(clients * times / (time.perf_counter() - started))
        rounds.append(rates)
    for process in processes:
        process.join()
    spends, updates = zip(*rounds, strict=True)
    return (
        statistics.median(spends),
        statistics.median(updates),
        statistics.median(one / other for one, other in rounds),
    )


def run() -> bool:
    """Prints the figures; False when a ratio is missed."""
    good = True
    with scratch_database():
        Consumer.objects.create(slug="bench")
        reservations.open_ledger()
        DailyLedger.objects.update(daily_limit=1_000_000_000, max_rps=1_000_000)  # no dispatch waits
        print("\nReserve and dispatch with its journal row, next to a bare UPDATE of the day's row:")
        for clients, times in ((1, 200), (16, 25)):
            spends, updates, ratio = measure(clients, times)
            good = good and ratio >= WANTED
            print(
                f"  {clients:2} clients  {spends:6,.0f}/s next to {updates:6,.0f}/s  "
                f"ratio {ratio:.2f} (at least {WANTED})"
            )
    return good


if __name__ == "__main__":
    sys.exit(0 if run() else 1)
