"""How long clients wait for the pace beside endless background work, and how equal the turns of that work are.

`python -m tests.bench.fairness [MINUTES]` creates its own database and plays three jobs and a bulk harvest that always
have a next request, and 20 clients a minute that each need one request at a random moment. One job has six processes,
the others have one each. It exits with 1 when a figure is missed. It takes MINUTES: 2 unless told, 10 for the whole.
"""

import logging
import statistics
import sys
import threading
import time
from bisect import bisect_left
from collections import Counter
from random import Random

from tests.bench.scratch import scratch_database  # isort: skip (first: it sets Django up)

from django.conf import settings
from django.db import connection

from quota.models import Call, Consumer, DailyLedger
from quota.services import reservations
from tests.fixtures import jain
from tests.quota.endless import dispatch, start

CLIENTS_A_MINUTE = 20
BACKGROUND = ["job a"] * 6 + ["job b", "job c", "harvest"]
MOST_WAIT, LEAST_JAIN, LEAST_SHARE = 1.5, 0.95, 0.95
PACE = 1.05
"""Seconds that the slots of one second take: see quota_pace."""


def wait_of_a_client(waits: list[float]) -> None:
    """Sends one request, and adds how long it waits for the pace, in seconds: until it may be sent."""
    asked_at = time.monotonic()
    waits.append(dispatch("client").send_after - asked_at)
    connection.close()


def play(seconds: float) -> list[float]:
    """Runs all of them for so many seconds. Returns the waits of the clients."""
    began = time.monotonic() + 2
    workers = start(BACKGROUND, is_over=lambda: time.monotonic() > began + seconds)
    dice = Random(11)
    waits: list[float] = []
    clients = []
    for moment in sorted(dice.uniform(0, seconds) for _ in range(round(CLIENTS_A_MINUTE * seconds / 60))):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        clients.append(threading.Thread(target=wait_of_a_client, args=(waits,)))
        clients[-1].start()
    for client in clients:
        client.join()
    for worker in workers:
        worker.join()
    return waits


def worst_minute(calls: list[tuple[str, float]]) -> float:
    """The lowest Jain index of the background work over any minute."""
    times = [moment for _, moment in calls]
    indices = []
    for first, moment in enumerate(times):
        if moment + 60 > times[-1]:
            break
        minute = Counter(slug for slug, _ in calls[first : bisect_left(times, moment + 60)])
        indices.append(jain([minute[slug] for slug in set(BACKGROUND)]))
    return min(indices)


def run(minutes: float = 2) -> bool:
    """Prints the figures; False when one is missed."""
    logging.disable(logging.INFO)
    with scratch_database():
        for slug in {*BACKGROUND, "client"}:
            Consumer.objects.create(slug=slug)
        reservations.open_ledger()
        waits = play(60 * minutes)
        rows = Call.objects.order_by("send_at").values_list("consumer__slug", "send_at")
        calls = [(slug, moment.timestamp()) for slug, moment in rows]
        [max_rps] = DailyLedger.objects.values_list("max_rps", flat=True)
    p50, p95 = statistics.median(waits), statistics.quantiles(waits, n=20)[-1]
    equality = worst_minute([call for call in calls if call[0] != "client"])
    share = (len(calls) - 1) * PACE / max_rps / (calls[-1][1] - calls[0][1])
    counts = Counter(slug for slug, _ in calls)
    print(f"\n{len(waits)} clients beside endless background work of {len(BACKGROUND)} processes, {minutes:g} minutes:")
    print(f"  wait for the pace   p50 {p50:.2f} s, p95 {p95:.2f} s (at most {MOST_WAIT}), longest {max(waits):.2f} s")
    print(f"  Jain index          {equality:.3f} in the worst minute (at least {LEAST_JAIN}): {dict(counts)}")
    print(f"  slots used          {share:.3f} (at least {LEAST_SHARE}), {settings.QUOTA_MAX_RPS} a second")
    return p95 <= MOST_WAIT and equality >= LEAST_JAIN and share >= LEAST_SHARE


if __name__ == "__main__":
    sys.exit(0 if run(float(sys.argv[1]) if len(sys.argv) > 1 else 2) else 1)
