"""How much of the pace each kind of operation uses, next to the same work one by one, at several latencies of ISBNdb.

`python -m tests.bench.pace` measures the short form: one latency, few requests. `--full` measures everything, which
takes 15 minutes. It exits with 1 when an operation uses too little of the pace, or when the sandbox has seen more
requests in a second than ISBNdb allows.

The share is the number of requests next to the number of slots that the pace has from the first to the last of them.
Each operation runs in a process of its own (pace_work.py), and so does the sandbox (pace_sandbox.py).
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.bench.scratch import scratch_database  # isort: skip (first: it sets Django up)

from django.conf import settings
from django.db import connection
from django.db.models import Max
from django.test.utils import override_settings

from alexandria.env import BASE_DIR
from enrichment.models import Edition
from harvest.defaults import ensure_defaults
from quota.models import Consumer
from tests import processes, tables
from tests.bench.pace_sandbox import KEY
from tests.bench.pace_work import BATCH, CONSUMER, LONG_AGO, OPERATIONS

LATENCIES = (0.2, 1.0, 2.0, 5.0)
SHORT_LATENCY = 2.0
DAILY_LIMIT = 10_000_000
MAX_RPS = settings.QUOTA_MAX_RPS
ONE_BY_ONE: dict[str, tuple[float, ...]] = {
    "direct": (0.72, 0.26, 0.15, 0.07),
    "job": (0.69, 0.27, 0.15, 0.07),
    "flush": (0.68, 0.27, 0.15, 0.07),
    "refresh": (0.94, 0.29, 0.16, 0.07),
    "refresh-listings": (1.00, 0.34, 0.17, 0.07),
    "listing": (0.80, 0.28, 0.15, 0.07),
    "releases": (0.88, 0.30, 0.16, 0.07),
    "bulk": (1.00, 0.34, 0.17, 0.07),
    "bulk-large": (0.75, 0.27, 0.16, 0.07),
}
"""The shares at each of LATENCIES when one request was sent after the other (commit 936a71b), measured by this file."""


@dataclass(frozen=True)
class Measured:
    """The figures of one operation at one latency. `memory` is in megabytes, of its process at its highest."""

    requests: int
    slots: float  # of the pace, from the first request to the last
    most_in_a_second: int
    books_a_second: float
    memory: float

    @property
    def share(self) -> float:
        return (self.requests - 1) / self.slots


def run(names: Sequence[str] = (), latencies: Sequence[float] = (SHORT_LATENCY,), *, full: bool = False) -> bool:
    """Prints the table; returns False when a figure is not as wanted. No name means all operations."""
    good = True
    with scratch_database():
        with connection.cursor() as cursor:  # this bench measures the pace, not the disk
            cursor.execute(f'ALTER DATABASE "{connection.settings_dict["NAME"]}" SET synchronous_commit = off')
        connection.close()
        tables.start_empty()
        print(f"\nShare of the pace, which has a slot every {pace():.2f} s. `before`: one request after the other.")
        print("  operation              latency requests share wanted before books/s memory at most")
        for name in names or OPERATIONS:
            operation = OPERATIONS[name]
            size = operation.size if full else operation.short_size
            with sandbox(operation.batch_price) as url:
                rehearse(name, size)
                for latency in latencies:
                    good &= show(name, latency, measure(name, size, url, latency))
    return good


def show(name: str, latency: float, measured: Measured) -> bool:
    """Prints a row; returns False when a figure is not as wanted."""
    operation, before = OPERATIONS[name], dict(zip(LATENCIES, ONE_BY_ONE[name], strict=True)).get(latency)
    good = measured.share >= operation.wanted and measured.most_in_a_second <= MAX_RPS
    print(
        f"  {operation.label:22} {latency:5.1f} s {measured.requests:8} {measured.share:5.2f} {operation.wanted:6.2f} "
        f"{'-' if before is None else format(before, '.2f'):>6} {measured.books_a_second:7,.0f} "
        f"{measured.memory:3.0f} MB {measured.most_in_a_second}/s{'' if good else '  MISSED'}",
        flush=True,
    )
    return good


@contextmanager
def sandbox(batch_price: str) -> Iterator[str]:
    """A sandbox without latency, and the settings to use it. Gives its address."""
    command = [sys.executable, "-m", "tests.bench.pace_sandbox", str(DAILY_LIMIT), batch_price]
    with subprocess.Popen(command, cwd=BASE_DIR, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        try:
            with override_settings(
                ISBNDB_BASE_URL=url,
                ISBNDB_API_KEY=KEY,
                ISBNDB_BATCH_SIZE=BATCH,
                ISBNDB_BATCH_PRICE=batch_price,
                QUOTA_DAILY_LIMIT=DAILY_LIMIT,
            ):
                yield url
        finally:
            process.terminate()


def rehearse(name: str, size: int) -> None:
    """Does the work once without latency and pace, after which the sandbox has the answers ready."""
    prepare(name, size)
    with override_settings(QUOTA_MAX_RPS=1000):
        run_process(name, size)


def measure(name: str, size: int, url: str, latency: float) -> Measured:
    """Does the work once at a latency of ISBNdb, in seconds."""
    prepare(name, size)
    set_latency(url, latency)
    httpx2.post(f"{url}/_sandbox/limits", json={"max_rps": MAX_RPS})
    started = time.time()
    memory = run_process(name, size)
    state = httpx2.get(f"{url}/_sandbox/state", timeout=60).json()
    httpx2.post(f"{url}/_sandbox/limits", json={"max_rps": None})
    sent = sorted(request["at"] for request in state["requests"] if request["at"] > started)
    counted = sent[OPERATIONS[name].first :]
    stored = Edition.objects.filter(synced_at__gt=LONG_AGO)
    last = stored.aggregate(last=Max("synced_at"))["last"].timestamp()
    return Measured(
        requests=len(counted),
        slots=(counted[-1] - counted[0]) / pace(),
        most_in_a_second=state["most_in_a_second"],
        books_a_second=stored.count() / (last - sent[0]),
        memory=memory,
    )


def set_latency(url: str, seconds: float) -> None:
    """Lets the sandbox take so long for each answer."""
    httpx2.delete(f"{url}/_sandbox/faults")
    httpx2.post(f"{url}/_sandbox/faults", json={"kind": "latency", "seconds": seconds, "times": None})


def prepare(name: str, size: int) -> None:
    """Empties the tables, and fills them with what the operation needs."""
    tables.empty()
    ensure_defaults()
    Consumer.objects.create(slug=CONSUMER)
    Consumer.objects.update(cap_per_operation=None)
    OPERATIONS[name].prepare(size)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def run_process(name: str, size: int) -> float:
    """Does the work in a new process; returns its memory at its highest, in megabytes."""
    command = [sys.executable, "-m", "tests.bench.pace_work", name, str(size)]
    environment = processes.environment() | {"DEBUG": "off"}
    done = subprocess.run(command, env=environment, cwd=BASE_DIR, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def pace() -> float:
    """The seconds between two slots."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM quota_pace(%s))", [MAX_RPS])
        return float(cursor.fetchone()[0])


def main(arguments: Sequence[str] | None = None) -> bool:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pace", description=__doc__)
    parser.add_argument("--full", action="store_true", help="all latencies, and more requests")
    parser.add_argument("--latency", type=float, action="append", help="in seconds; can be repeated")
    parser.add_argument("names", nargs="*", metavar="OPERATION", help=f"some of {', '.join(OPERATIONS)} (all)")
    options: Any = parser.parse_args(arguments)
    latencies = options.latency or (LATENCIES if options.full else (SHORT_LATENCY,))
    return run(options.names, latencies, full=options.full)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
