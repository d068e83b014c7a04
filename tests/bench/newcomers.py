"""How long one ISBN of a consumer waits beside six jobs of 20,000 ISBNs of another, at two latencies of ISBNdb.

`python -m tests.bench.newcomers` creates its own database and a sandbox, and has two processes that work on jobs. It
exits with 1 when the send time of the request for the one ISBN is later than wanted: see MOST_WAIT. It takes two
minutes. The processes look for a job twenty times a second: what Celery's broker takes is not in the figures.
"""

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from tests.bench.scratch import scratch_database  # isort: skip (first: it sets Django up)

from alexandria.env import BASE_DIR
from enrichment.jobs.workers import run_job
from enrichment.models import Job
from quota.models import Call, Consumer
from tests import processes, tables
from tests.bench import pace
from tests.bench.pace_work import BATCH, CONSUMER, create_job, known

WORKERS, JOBS, ISBNS, NEWCOMERS = 2, 6, 20_000, 4
LATENCIES = (0.2, 2.0)
MOST_WAIT = 3.0
"""Seconds until the request for the one ISBN is sent, whatever the latency."""


def run() -> bool:
    """Prints the figures; returns False when a newcomer waits too long."""
    good = True
    print(f"\nOne ISBN beside {JOBS} jobs of {ISBNS:,} ISBNs of another consumer, {WORKERS} job workers:")
    with scratch_database(), pace.sandbox("request") as url:
        tables.start_empty()
        for latency in LATENCIES:
            waits = measure(url, latency)
            good &= max(waits) <= MOST_WAIT
            print(
                f"  latency {latency:3.1f} s: sent after {sum(waits) / len(waits):.1f} s on average, "
                f"{max(waits):.1f} s at most (wanted {MOST_WAIT:.1f})"
            )
    return good


def measure(url: str, latency: float) -> list[float]:
    """The seconds from asking for one ISBN to sending the request for it, for each newcomer."""
    pace.prepare("job", 0)
    pace.set_latency(url, latency)
    isbns = known(JOBS * ISBNS // BATCH + 1)
    first = JOBS * ISBNS
    for start in range(0, first, ISBNS):
        create_job(CONSUMER, isbns[start : start + ISBNS])
    random = Random(5)
    with job_workers():
        return [wait_of(f"newcomer-{isbn}", isbn, random) for isbn in isbns[first : first + NEWCOMERS]]


def wait_of(slug: str, isbn: str, random: Random) -> float:
    """The seconds until the request of a new consumer is sent, at a random moment of the large jobs."""
    Consumer.objects.create(slug=slug)
    at_work = Call.objects.count() + 5
    processes.wait_until(lambda: Call.objects.count() > at_work)
    time.sleep(random.uniform(0, 1))
    job = create_job(slug, [isbn])
    processes.wait_until(lambda: Job.objects.filter(pk=job.pk, state="succeeded").exists())
    assert Job.objects.filter(consumer__slug=CONSUMER, ended_at=None).count() >= WORKERS, "a worker may have been idle"
    return (Call.objects.get(consumer__slug=slug).send_at - job.created_at).total_seconds()


@contextmanager
def job_workers() -> Iterator[None]:
    """Processes that work on jobs."""
    command = [sys.executable, "-m", "tests.bench.newcomers", "worker"]
    environment = processes.environment() | {"DEBUG": "off"}
    workers = [subprocess.Popen(command, env=environment, cwd=BASE_DIR) for _ in range(WORKERS)]
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def work() -> None:
    """Works on jobs until it is killed."""
    logging.disable(logging.INFO)
    while True:
        run_job()
        time.sleep(0.05)


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        work()
    sys.exit(0 if run() else 1)
