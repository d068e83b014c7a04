"""One reserve-and-dispatch, next to what it cannot do without, by 1 and by 16 clients.

A decision writes four rows: ledger, consumer's usage, reservation, journal. So it is measured next to one statement
that writes the same four rows and decides nothing, and next to a bare UPDATE of the ledger alone, as a counter would
do.

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

from quota.database import ask
from quota.models import Consumer, DailyLedger
from quota.prices import RequestKind
from quota.services import reservations

WANTED = {"the same rows": 0.5, "a bare UPDATE": 0.3}
"""At least so much of their rate."""
SAME_ROWS = """
    WITH ledger AS (
        UPDATE quota_dailyledger SET used = used + 1, requests = requests + 1, next_dispatch_at = quota_now()
        WHERE day = quota_day(quota_now()) RETURNING day
    ), usage AS (
        UPDATE quota_consumerusage own SET used = used + 1, requests = requests + 1, last_slot_at = quota_now()
        FROM ledger WHERE own.day = ledger.day RETURNING own.day, consumer_id
    ), reservation AS (
        INSERT INTO quota_reservation (
            id, day, consumer_id, operation, source, asked, calls, dispatched, state, created_at, expires_at
        ) SELECT gen_random_uuid(), day, consumer_id, 'bench', '', 1, 1, 1, 'open', quota_now(), quota_now() FROM usage
        RETURNING id, day, consumer_id
    )
    INSERT INTO quota_call (
        day, consumer_id, reservation_id, operation, calls, dispatched_at, send_at, method, path, isbns_asked, outcome,
        error
    ) SELECT day, consumer_id, id, 'bench', 1, quota_now(), quota_now(), 'POST', '/books', 1000, 'unknown', ''
    FROM reservation RETURNING id"""
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


def same_rows() -> None:
    ask(SAME_ROWS)


WORK: dict[str, Callable[[], None]] = {
    "reserve and dispatch": spend,
    "the same rows": same_rows,
    "a bare UPDATE": bare_update,
}


def client(times: int, barrier: Barrier) -> None:
    for work in [*WORK.values()] * 20:
        work()  # connects, plans, warms the caches
    for _ in range(ROUNDS):
        for work in WORK.values():
            barrier.wait()
            for _ in range(times):
                work()
            barrier.wait()


def measure(clients: int, times: int) -> list[dict[str, float]]:
    """Runs all of WORK in turn, ROUNDS times. Returns their operations a second, for each round."""
    connection.close()  # not to be shared with the children
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(clients + 1, timeout=120)
    processes = [fork.Process(target=client, args=(times, barrier)) for _ in range(clients)]
    for process in processes:
        process.start()
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        rates = {}
        for name in WORK:
            barrier.wait()
            started = time.perf_counter()
            barrier.wait()
            rates[name] = clients * times / (time.perf_counter() - started)
        rounds.append(rates)
    for process in processes:
        process.join()
    return rounds


def run() -> bool:
    """Prints the figures; False when a ratio is missed."""
    good = True
    with scratch_database():
        Consumer.objects.create(slug="bench")
        reservations.open_ledger()
        DailyLedger.objects.update(daily_limit=1_000_000_000, max_rps=1_000_000)  # no dispatch waits
        print("\nReserve and dispatch, next to what it cannot do without:")
        for clients, times in ((1, 200), (16, 25)):
            rounds = measure(clients, times)
            rates = {name: statistics.median(rates[name] for rates in rounds) for name in WORK}
            print(f"  {clients:2} clients  reserve and dispatch {rates['reserve and dispatch']:6,.0f}/s")
            for name, wanted in WANTED.items():
                ratio = statistics.median(rates["reserve and dispatch"] / rates[name] for rates in rounds)
                good = good and ratio >= wanted
                print(f"              {name:20} {rates[name]:6,.0f}/s  ratio {ratio:.2f} (at least {wanted})")
    return good


if __name__ == "__main__":
    sys.exit(0 if run() else 1)
