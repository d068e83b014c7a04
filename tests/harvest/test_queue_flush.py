"""queue-flush: sends the batches of the queue that are full or due."""

import pytest

from alexandria.development.sandbox.server import Sandbox
from enrichment import selectors
from enrichment.models import Edition, QueuedIsbn
from enrichment.services.queue import enqueue
from harvest.models import HarvestRun
from harvest.runs import run_cron
from quota.models import Consumer
from quota.services import reservations as quota
from tests.fixtures import balance, known_isbns

pytestmark = pytest.mark.usefixtures("defaults")


@pytest.fixture(autouse=True)
def batches_of_five(settings, consumer: Consumer, sandbox: Sandbox) -> None:
    settings.ISBNDB_BATCH_SIZE = 5


def queue(count: int) -> None:
    enqueue(known_isbns(count), priority=QueuedIsbn.Priority.NORMAL, consumer="reader")


@pytest.mark.slow
def test_full_batches_are_sent_and_charged_to_the_run(sandbox: Sandbox) -> None:
    queue(11)
    run = run_cron("queue-flush")
    assert run is not None
    assert (run.outcome, run.calls, run.books) == ("succeeded", 2, 10)
    assert (Edition.objects.count(), QueuedIsbn.objects.count()) == (10, 1)
    assert balance(sandbox) == (2, 2)


def test_while_nothing_is_due_all_its_runs_share_one_row() -> None:
    queue(4)
    assert "worker" in (selectors.get_queue().warning or "")
    for _ in range(3):
        run_cron("queue-flush")
    run = HarvestRun.objects.get()
    assert (run.outcome, run.calls, run.repeats) == ("idle", 0, 2)
    assert selectors.get_queue().warning is None, "a worker looks at the queue"


def test_below_its_floor_it_is_skipped_and_the_queue_shows_why(sandbox: Sandbox) -> None:
    queue(5)
    quota.increment(12_000)
    run = run_cron("queue-flush")
    assert run is not None
    reason = "The consumer cron-queue-flush must leave calls free for others. Its floor is 1,000."
    assert (run.outcome, run.reason) == ("skipped", reason)
    assert selectors.get_queue().warning == f"The queue waits: {reason}"
    assert (sandbox.spent, QueuedIsbn.objects.count()) == (0, 5)


def test_when_isbndb_fails_the_run_fails_and_the_next_one_waits(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=500)
    queue(5)
    run = run_cron("queue-flush")
    assert run is not None
    assert (run.outcome, run.calls) == ("failed", 3)
    assert "status 500" in run.reason
    again = run_cron("queue-flush")
    assert again is not None
    assert (again.outcome, again.calls, sandbox.spent) == ("idle", 0, 3)
