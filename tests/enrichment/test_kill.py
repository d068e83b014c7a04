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


def start(point: str, workers: int = 1) -> subprocess.Popen[str]:
    """Starts so many workers, each with ISBNs for two batches. They are forks of one process, in its own session."""
    isbns = known_isbns(4 * workers)
    lists = [",".join(isbns[4 * number :][:4]) for number in range(workers)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.enrichment.doomed", point, *lists],
        env=processes.environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(workers: subprocess.Popen[str]) -> None:
    """Kills them with `kill -9`, and waits until the last one has ended."""
    processes.kill(workers)
    assert workers.returncode == -signal.SIGKILL
    with workers:
        assert workers.stdout is not None
        assert workers.stdout.read() == ""


def after_the_lease(set_clock: SetClock) -> None:
    set_clock(NOON + timedelta(minutes=10))
    reservations.expire()


@pytest.mark.parametrize(
    ("point", "under_way", "spent_and_not_sent"),
    [
        ("before the second dispatch", 1, 0),
        ("between dispatch and send", 2, 2 * KILLS),
        ("between answer and record", 2, 0),
    ],
)
def test_killed_workers_leave_no_reserved_call_and_no_uncounted_call(
    point: str, under_way: int, spent_and_not_sent: int, sandbox: Sandbox, set_clock: SetClock
) -> None:
    workers = start(point, KILLS)
    assert workers.stdout is not None
    waiting = KILLS * under_way
    assert [workers.stdout.readline() for _ in range(waiting)] == ["waiting\n"] * waiting
    assert get_status().reserved == KILLS * (2 - under_way)
    deadline = time.monotonic() + 60
    while sandbox.spent < waiting - spent_and_not_sent:  # the first request of each may still be on its way
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kill(workers)
    after_the_lease(set_clock)
    counted, used = balance(sandbox)
    assert used == counted + spent_and_not_sent
    assert set(Reservation.objects.values_list("state", flat=True)) == {"expired"}


def test_a_worker_killed_while_isbndb_answers_leaves_its_calls_with_an_unknown_outcome(
    sandbox: Sandbox, set_clock: SetClock
) -> None:
    sandbox.add_fault("latency", seconds=30)
    worker = start("nowhere")
    deadline = time.monotonic() + 60
    while sandbox.spent < 2:
        assert worker.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kill(worker)
    after_the_lease(set_clock)
    assert balance(sandbox) == (2, 2)
    assert set(Call.objects.values_list("outcome", flat=True)) == {"unknown"}
