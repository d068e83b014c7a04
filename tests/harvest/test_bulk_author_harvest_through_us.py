"""manage.py bulk_author_harvest --server against our own API, over real HTTP, with a worker that does the jobs."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from pytest_django.live_server_helper import LiveServer

from alexandria.development.sandbox.server import Sandbox
from enrichment.jobs.lifecycle import resume_jobs
from enrichment.jobs.workers import run_job
from enrichment.models import Job
from harvest.bulk import remote
from quota.models import Call, Consumer, Switches
from tests.fixtures import balance
from tests.harvest.bulk import a_list, harvest, pages_asked


@pytest.fixture
def worker(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs every job that needs a worker."""
    monkeypatch.setattr(remote, "POLL_SECONDS", (0.05, 0.1))
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.05):
            resume_jobs()
            run_job()
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.mark.slow
@pytest.mark.usefixtures("plenty_left", "worker")
def test_a_list_is_harvested_at_our_server_to_the_end_of_the_quota_and_beyond(
    live_server: LiveServer, sandbox: Sandbox, consumer: Consumer, key: str, tmp_path: Path
) -> None:
    sandbox.add_fault("status", status=404, path="/author/Nobody", body={"message": "Not found"})
    Consumer.objects.update(daily_budget=3)
    listed = a_list(tmp_path, "Agatha Christie", "Nobody", "Adam Silvera", "Nora Roberts")
    through = ("--server", live_server.url, "--api-key", key)

    first = harvest(listed, *through)
    assert first.code == 2, first.message
    assert "daily budget" in first.message
    assert first.summary["pending"] > 0
    assert balance(sandbox) == (3, 3)

    Consumer.objects.update(daily_budget=None)
    Switches.objects.update_or_create(pk=1, defaults={"harvest_enabled": False})  # API clients are not affected
    second = harvest("--resume", *through)
    assert (second.code, second.summary["done"], second.summary["calls"]) == (0, 3, 5)
    authors = first.named("author") + second.named("author")
    assert sorted((each["name"], each["state"], each["books"], each["calls"]) for each in authors) == [
        ("Adam Silvera", "done", 9, 1),
        ("Agatha Christie", "done", 1432, 2),
        ("Nobody", "unknown", 0, 1),
        ("Nora Roberts", "done", 66, 1),
    ]
    asked = pages_asked(sandbox)
    assert len(asked) == len(set(asked)) == 5
    assert balance(sandbox) == (5, 5)
    job = Job.objects.get()
    assert (job.consumer, job.label, job.attended) == (consumer, "authors.txt", False)
    assert set(Call.objects.values_list("reservation__source", flat=True)) == {job.source}

    finished = harvest(listed, *through)
    assert finished.code == 1
    assert "To ask again costs 3 to 40 calls. --again does it." in finished.message
    assert harvest(listed, *through, "--again").code == 0
    assert Job.objects.count() == 2

    ranked = harvest(*through, "--tier", "top-100", "--dry-run")
    assert ranked.code == 0, ranked.message
    assert ranked.events[0]["authors"] == 100
    last = harvest(*through, "--tier", "5000-20000", "--dry-run")
    assert last.message == "The list has no author name in it."

    Consumer.objects.update(active=False)
    off = harvest("--author", "Stephen King", *through)
    assert off.code == 1
    assert "switched off" in off.message
