"""A fleet that waits for the pace: how often it asks PostgreSQL, and whether each slot is used.

Each process always wants the next slot of the pace, at 3 requests a second for all of them, as a worker with endless
work does. So nearly all of them wait, and ask again about once in an interval of the pace.

`python -m tests.bench.scale` makes a database of its own. PgBouncer has the settings of docs/deploy.md, with 8
connections. It ends with 1 when two machines' worth of processes miss slots or fail.
"""

import multiprocessing
import statistics
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from urllib.parse import urlsplit
from uuid import UUID

from tests.bench.scratch import scratch_database  # isort: skip (first: it sets Django up)

from django.db import connection

from quota.exceptions import QuotaUnavailable
from quota.models import Consumer, DailyLedger
from quota.prices import RequestKind
from quota.services import reservations
from tests.bouncer import PROGRAM, bouncing

SECONDS = 10
PACE = timedelta(seconds=1.05) / 3
TWO_MACHINES = 42  # processes and web threads of two machines with the defaults
DIRECTLY, THROUGH_PGBOUNCER = (4, TWO_MACHINES, 128), (TWO_MACHINES, 128)
WANTED = 0.9
"""Of the slots, for two machines' worth of processes."""


@dataclass
class Work:
    statements: int = 0
    slots: list[datetime] = field(default_factory=list)
    failed: int = 0
    took: list[float] = field(default_factory=list)


def work(reservation: UUID, port: int | None, start: Barrier, results: Connection) -> None:
    """Takes slot after slot, in the way of a worker. `port`: of PgBouncer."""
    if port:
        options = {name: value for name, value in connection.settings_dict["OPTIONS"].items() if name != "options"}
        connection.settings_dict |= {
            "HOST": "127.0.0.1",
            "PORT": port,
            "OPTIONS": options | {"prepare_threshold": None},
        }
    done = Work()
    with suppress(QuotaUnavailable):
        reservations.expire()  # connects
    start.wait()
    end = time.monotonic() + SECONDS
    while (began := time.monotonic()) < end:
        pause = 0.0
        try:
            answer = reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/book/x")
            if isinstance(answer, timedelta):
                pause = answer.total_seconds()
            else:
                done.slots.append(answer.send_at)
        except QuotaUnavailable:
            done.failed += 1
        done.statements += 1
        done.took.append(time.monotonic() - began)
        time.sleep(pause)
    results.send(done)


def fleet(processes: int, port: int | None = None) -> bool:
    """Prints a line. Whether nothing failed, and the slots were used."""
    held = [reservations.reserve(consumer="bench", operation="bench", calls=1000) for _ in range(processes)]
    connection.close()  # not to be shared with the children
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(processes, timeout=120)
    pipes = [fork.Pipe(duplex=False) for _ in range(processes)]
    children = [
        fork.Process(target=work, args=(reservation, port, start, pipe[1]))
        for reservation, pipe in zip(held, pipes, strict=True)
    ]
    for child in children:
        child.start()
    found: list[Work] = [pipe[0].recv() for pipe in pipes]
    for child in children:
        child.join()
    slots = sorted(slot for one in found for slot in one.slots)
    failed = sum(one.failed for one in found)
    share = (len(slots) - 1) * PACE / (slots[-1] - slots[0])
    took = sorted(seconds for one in found for seconds in one.took)
    print(
        f"  {'PgBouncer' if port else 'directly':10} {processes:4} processes  {share:4.2f} of the slots"
        f"  {sum(one.statements for one in found) / SECONDS:6,.0f} statements/s, half within"
        f" {1000 * statistics.median(took):5,.0f} ms, 99 % within {1000 * took[len(took) * 99 // 100]:6,.0f} ms,"
        f" {failed} failed",
        flush=True,
    )
    return share >= WANTED and not failed


def run() -> bool:
    """Prints the figures; False when two machines' worth of processes miss slots, or fail."""
    good = True
    with scratch_database():
        Consumer.objects.create(slug="bench")
        reservations.open_ledger()
        DailyLedger.objects.update(daily_limit=1_000_000)
        print("\nA fleet that waits for the pace:")
        for processes in DIRECTLY:
            good = (fleet(processes) or processes > TWO_MACHINES) and good
        if PROGRAM:
            with bouncing() as bouncer:
                for processes in THROUGH_PGBOUNCER:
                    good = (fleet(processes, urlsplit(bouncer.url).port) or processes > TWO_MACHINES) and good
    return good


if __name__ == "__main__":
    sys.exit(0 if run() else 1)
