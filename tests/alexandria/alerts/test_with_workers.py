"""The alerts with real workers: each reports its queues, and one reports that the other is dead."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import signature
from django.core.cache import cache
from honcho.environ import parse_procfile

from alexandria.alerts import snapshot
from alexandria.alerts.models import Alert, Delivery, Webhook
from alexandria.alerts.rules import QUEUES
from alexandria.alerts.snapshot import consumed_queues
from alexandria.alerts.tasks import SENDER
from alexandria.env import BASE_DIR
from enrichment.jobs.lifecycle import create_job
from enrichment.models import Job
from quota.models import Consumer
from tests import processes
from tests.alexandria.alerts.receiver import Receiver
from tests.fixtures import broker_moved, known_isbns, silent_port
from tests.processes import wait_until

pytestmark = pytest.mark.slow

PATIENCE = 60.0  # seconds
CHECK_EVERY = 10.0  # seconds; beat sends the check again too, so one that fails on a busy machine does not matter


@contextmanager
def worker(name: str, log: Path) -> Iterator[None]:
    """The worker of that name in the Procfile, ready, until it is killed."""
    command = parse_procfile((BASE_DIR / "Procfile").read_text()).processes[name]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            cwd=BASE_DIR,
            env=processes.environment() | {"PATH": path, "ALERT_WEBHOOKS_TO_PRIVATE": "on"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        queue = {"worker": "celery"}.get(name, name)
        wait_until(lambda: queue in (consumed_queues(expected=[queue]) or {}))
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        cache.delete(SENDER)  # it may have been killed just before it did so itself


def check_until(condition: Callable[[], bool], *, log: Path) -> None:
    """Lets a worker check the alerts, again every CHECK_EVERY, until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        signature("alexandria.alerts.tasks.check_alerts").apply_async()
        again_at = time.monotonic() + CHECK_EVERY
        while not condition() and time.monotonic() < again_at:
            time.sleep(0.05)


def test_a_worker_reports_that_another_worker_is_dead_and_that_it_is_back(
    webhook: Webhook, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "SECONDS_TO_ANSWER", (1.0,))  # this test asks again until the answer is right
    with worker("jobs", tmp_path / "jobs.log"):
        assert set(consumed_queues(expected=QUEUES) or {}) == {"jobs", "alerts"}
        check_until(lambda: Delivery.objects.filter(state="delivered").exists(), log=tmp_path / "jobs.log")
        assert [alert.key for alert in Alert.objects.all()] == ["workers:celery"]
        assert len(receiver.received) == 1
        with worker("worker", tmp_path / "worker.log"):
            queues = consumed_queues(expected=QUEUES) or {}
            assert {name: len(names) for name, names in queues.items()} == {"celery": 1, "jobs": 1, "alerts": 2}
            Alert.objects.update(last_seen_at="2026-05-05 11:00Z")
            check_until(
                lambda: Delivery.objects.filter(event="alert.recovered", state="delivered").exists(),
                log=tmp_path / "worker.log",
            )
    assert consumed_queues(expected=[]) == {}


def test_a_worker_posts_what_became_of_a_job_before_anybody_checks_the_alerts(
    consumer: Consumer, receiver: Receiver, tmp_path: Path
) -> None:
    Consumer.objects.update(daily_budget=0)
    with worker("jobs", tmp_path / "jobs.log"):
        wanted = {"isbns": known_isbns(1), "refresh": False, "source": ""}
        job = create_job(consumer=consumer, kind=Job.Kind.BATCH_DIRECT, wanted=wanted, notify_url=receiver.url)
        wait_until(lambda: Delivery.objects.filter(state="delivered").exists())
    [got] = receiver.received
    assert json.loads(got.body)["type"] == "job.failed"
    assert Job.objects.get(pk=job.pk).state == "failed"


def test_a_broker_that_does_not_answer_does_not_block_the_check() -> None:
    with silent_port() as port, broker_moved(port):
        assert consumed_queues(expected=QUEUES) is None
