"""queue-flush: sends the batches of the queue that are full or due."""

import pytest

from alexandria.development.sandbox.server import Sandbox
from enrichment.models import Edition, QueuedIsbn
from enrichment.selectors.queue import get_queue
from enrichment.services.queue import enqueue
from harvest.models import HarvestRun
from harvest.runs import run_cron
from quota.models import Call, Consumer
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
    assert "worker" in (get_queue().warning or "")
    for _ in range(3):
        run_cron("queue-flush")
    run = HarvestRun.objects.get()
    assert (run.outcome, run.calls, run.repeats) == ("idle", 0, 2)
    assert get_queue().warning is None, "a worker looks at the queue"


def test_who_asked_pays_so_the_cron_needs_no_consumer_and_has_no_floor(sandbox: Sandbox) -> None:
    queue(5)
    quota.increment(12_500)
    run = run_cron("queue-flush")
    assert run is not None
    assert (run.outcome, run.calls) == ("succeeded", 1)
    assert list(Call.objects.filter(operation="queue").values_list("consumer__slug", flat=True)) == ["reader"]
    assert not Consumer.objects.filter(slug="cron-queue-flush").exists()


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
