"""Guarantees 3 and 4: `kill -9` of real workers at every step.

After the lease no call is reserved. `used` is at least ISBNdb's count, and at most one call more for each kill.
"""

import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest

from alexandria.development.sandbox.server import Sandbox
from quota.models import Call, Consumer, Reservation
from quota.selectors.status import get_status
from quota.services import reservations
from tests import processes
from tests.fixtures import NOON, SetClock, balance, known_isbns

pytestmark = pytest.mark.slow

KILLS = 3


@pytest.fixture(autouse=True)
def two_batches_an_operation(settings, consumer: Consumer, sandbox: Sandbox) -> None:
    settings.ISBNDB_BATCH_SIZE = 2
    settings.ISBNDB_TIMEOUT_SECONDS = 60


def start(point: str, number: int = 0) -> subprocess.Popen[str]:
    isbns = known_isbns(4 * KILLS)[4 * number :][:4]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.enrichment.doomed", point, *isbns],
        env=processes.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )


def kill(worker: subprocess.Popen[str]) -> None:
    with worker:
        worker.kill()
    assert worker.returncode == -signal.SIGKILL


def after_the_lease(set_clock: SetClock) -> None:
    set_clock(NOON + timedelta(minutes=10))
    reservations.expire()


@pytest.mark.parametrize(
    ("point", "spent_and_not_sent"),
    [
        ("before the second dispatch", 0),
        ("between dispatch and send", KILLS),
        ("between answer and record", 0),
    ],
)
def test_killed_workers_leave_no_reserved_call_and_no_uncounted_call(
    point: str, spent_and_not_sent: int, sandbox: Sandbox, set_clock: SetClock
) -> None:
    workers = [start(point, number) for number in range(KILLS)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "waiting\n"
    assert get_status().reserved == KILLS
    for worker in workers:
        kill(worker)
    after_the_lease(set_clock)
    counted, used = balance(sandbox)
    assert used == counted + spent_and_not_sent
    assert set(Reservation.objects.values_list("state", flat=True)) == {"expired"}


def test_a_worker_killed_while_isbndb_answers_leaves_a_call_with_an_unknown_outcome(
    sandbox: Sandbox, set_clock: SetClock
) -> None:
    sandbox.add_fault("latency", seconds=30)
    worker = start("nowhere")
    deadline = time.monotonic() + 60
    while not sandbox.spent:
        assert worker.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kill(worker)
    after_the_lease(set_clock)
    assert balance(sandbox) == (1, 1)
    assert Call.objects.get().outcome == "unknown"
