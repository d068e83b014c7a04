"""Guarantees 2 to 4 with many requests under way: `kill -9` at seeded moments, then the work continues.

`KILLS=100 pytest tests/harvest/test_kills_under_way.py` kills a hundred times; the default is a few.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from alexandria.development.sandbox import api
from alexandria.development.sandbox.api import Answer, Call
from alexandria.development.sandbox.server import Sandbox
from enrichment.gateway.asking import MAX_UNDER_WAY
from enrichment.jobs.lifecycle import create_job, resume_jobs
from enrichment.models import Job, QueuedIsbn
from enrichment.services import queue
from enrichment.services.releases import Wanted, parse_month
from quota.models import Call as JournalCall
from quota.models import Consumer
from quota.selectors.status import get_status
from quota.services import reservations
from tests import processes
from tests.fixtures import NOON, SetClock, balance, known_isbns
from tests.harvest import bulk
from tests.processes import wait_until

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("KILLS", "4"))
KILLS_OF_A_WORK = 1 if KILLS < 20 else 2  # after three deaths without an answer in between, a job fails on purpose
PATIENCE = 120.0  # seconds
LATENCY = 0.3  # seconds
BATCH = 5
ISBNS = known_isbns(60)
AUTHORS = [
    "Ada Brandvold", "Adam Silvera", "Ali Hazelwood", "Amina Corvino", "Andrea Wulf", "Anthony Burgess", "Blake Crouch",
    "Charles Duhigg", "Chidi Yarborough", "Cora Reilly", "Dan Brown", "Diana Gabaldon", "Elle Kennedy", "Eric Ries",
]  # fmt: skip
AFTER_EVERY_LEASE = timedelta(minutes=30)
UNDER_WAY = [sys.executable, "-m", "tests.harvest.under_way"]


@dataclass
class Work:
    """Work that can be killed and continued.

    `start` and `go_on` are its commands, at first and after a kill. `resume` is called before `go_on`, when all leases
    are over. `requests` is the least number of requests that it takes. `settled`: the ISBNs that must not be asked for
    again.
    """

    start: list[str]
    requests: int
    is_done: Callable[[], bool] = lambda: True
    go_on: list[str] | None = None
    resume: Callable[[], object] = lambda: None
    settled: Callable[[], set[str]] = set


@pytest.fixture
def asked() -> Iterator[Counter[str]]:
    """How often ISBNdb was asked for each page, and in batches for each ISBN."""
    asked: Counter[str] = Counter()
    answer = api.answer

    def note_and_answer(call: Call) -> Answer:
        request = call.request
        asked.update(json.loads(call.body)["isbns"] if call.body else [f"{request.path}?{request.query}"])
        return answer(call)

    with patch.object(api, "answer", note_and_answer):
        yield asked


@pytest.fixture(autouse=True)
def many_under_way(settings, bulk_author: Consumer, consumer: Consumer, sandbox: Sandbox) -> None:
    settings.ISBNDB_BATCH_SIZE = BATCH
    settings.QUOTA_MAX_RPS = 40
    Consumer.objects.update(floor=0, cap_per_operation=None)
    sandbox.add_fault("latency", seconds=LATENCY)


def job_of_isbns(folder: Path) -> Work:
    job = create_job(consumer=Consumer.objects.get(slug="reader"), kind=Job.Kind.BATCH_DIRECT, wanted={"isbns": ISBNS})
    return Work(
        start=[*UNDER_WAY, str(job.pk)],
        requests=len(ISBNS) // BATCH,
        is_done=lambda: Job.objects.get().state == Job.State.SUCCEEDED,
        resume=resume_jobs,
        settled=lambda: set(job.items.exclude(state="pending").values_list("isbn13", flat=True)),
    )


def flushes_of_the_queue(folder: Path) -> Work:
    queue.enqueue(ISBNS, priority=QueuedIsbn.Priority.HIGH, consumer="reader")
    return Work(
        start=[*UNDER_WAY, "flush"],
        requests=len(ISBNS) // BATCH,
        is_done=lambda: not QueuedIsbn.objects.exists(),
        settled=lambda: set(ISBNS) - set(QueuedIsbn.objects.values_list("isbn13", flat=True)),
    )


def job_of_listings(folder: Path) -> Work:
    months = Wanted(parse_month("2001-01"), parse_month("2001-04"), max_pages_per_month=2)
    job = create_job(
        consumer=Consumer.objects.get(slug="reader"), kind=Job.Kind.NEW_RELEASES, wanted={"wanted": months}
    )
    return Work(
        start=[*UNDER_WAY, str(job.pk)],
        requests=4,
        is_done=lambda: Job.objects.get().state == Job.State.SUCCEEDED,
        resume=resume_jobs,
    )


def bulk_harvest(folder: Path) -> Work:
    command = [*bulk.COMMAND, str(bulk.a_list(folder, *AUTHORS))]
    return Work(start=command, go_on=[*command, "--resume"], requests=len(AUTHORS))


WORKS = (job_of_isbns, flushes_of_the_queue, job_of_listings, bulk_harvest)


@pytest.mark.parametrize("seed", range(ceil(KILLS / KILLS_OF_A_WORK)))
def test_after_kills_the_work_ends_and_every_call_is_counted(
    seed: int, sandbox: Sandbox, asked: Counter[str], set_clock: SetClock, tmp_path: Path
) -> None:
    random = Random(seed)
    work = WORKS[seed % len(WORKS)](tmp_path)
    settled: Counter[str] = Counter()
    command, kills = work.start, 0
    while kills < KILLS_OF_A_WORK and kill(command, sandbox, random, most=work.requests // 2):
        kills += 1
        wait_until(lambda: all(request["status"] for request in sandbox.requests))
        settled = Counter({isbn: asked[isbn] for isbn in work.settled()})
        set_clock(NOON + kills * AFTER_EVERY_LEASE)
        reservations.expire()
        assert get_status().reserved == 0
        work.resume()
        command = work.go_on or work.start
    ended = subprocess.run(command, env=processes.environment(), capture_output=True, timeout=PATIENCE, check=False)
    assert kills
    assert ended.returncode == 0, ended.stderr.decode()
    assert work.is_done()

    counted, used = balance(sandbox)
    unknown = JournalCall.objects.filter(outcome="unknown").count()
    assert counted <= used <= counted + unknown
    assert unknown <= kills * MAX_UNDER_WAY
    assert max(asked.values()) <= 1 + kills
    assert {isbn: asked[isbn] for isbn in settled} == settled


def kill(command: list[str], sandbox: Sandbox, random: Random, *, most: int) -> bool:
    """Starts the work and kills it at a random moment, after up to `most` requests. False if it ended before."""
    enough = len(sandbox.requests) + random.randint(1, most)
    with subprocess.Popen(command, env=processes.environment(), stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: len(sandbox.requests) >= enough or process.poll() is not None)
        time.sleep(random.uniform(0, LATENCY))
        process.kill()
    return process.returncode == -signal.SIGKILL
