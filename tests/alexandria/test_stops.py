"""SIGTERM to processes with paid requests under way: they take what is under way, and end between two batches."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from alexandria.development.sandbox.server import Sandbox
from enrichment.jobs.lifecycle import create_job, resume_jobs
from enrichment.jobs.workers import run_job
from enrichment.models import Edition, Job
from quota.models import Call, Consumer
from tests import processes
from tests.alexandria.serving import answers
from tests.fixtures import balance, known_isbns
from tests.processes import wait_until

pytestmark = pytest.mark.slow

BATCHES = 60
KNOWN = known_isbns(BATCHES)


@pytest.fixture(autouse=True)
def many_short_batches(settings, consumer: Consumer, sandbox: Sandbox) -> None:
    settings.ISBNDB_BATCH_SIZE = 1
    settings.QUOTA_MAX_RPS = 10
    sandbox.add_fault("latency", seconds=0.3)


def stored() -> set[str]:
    return set(Edition.objects.values_list("pk", flat=True))


def test_web_that_is_told_to_end_answers_with_what_was_done(sandbox: Sandbox, key: str, tmp_path: Path) -> None:
    port, log = processes.unused_port(), tmp_path / "log"
    web = processes.start("web", log, BIND="127.0.0.1", PORT=str(port), WEB_CONCURRENCY="1")
    client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Api-Key {key}"}, timeout=90)
    try:
        with client, ThreadPoolExecutor(1) as thread:
            wait_until(lambda: answers(client), web, log=log)
            post = thread.submit(client.post, "/api/enrich/batch-direct", json={"isbns": KNOWN})
            wait_until(lambda: sandbox.spent >= 2, web, log=log)
            web.send_signal(signal.SIGTERM)
            response = post.result()
        assert web.wait(timeout=processes.MAX_SECONDS) == 0, log.read_text()
    finally:
        if web.poll() is None:
            processes.kill(web)
    assert response.status_code == 503, response.text
    assert "The service stops." in response.json()["detail"], response.text
    assert (response.json()["api_calls"], response.headers["Retry-After"]) == (sandbox.spent, "5"), response.text
    assert 2 <= sandbox.spent < BATCHES
    assert len(stored()) == sandbox.spent
    assert balance(sandbox) == (sandbox.spent, sandbox.spent)
    assert set(Call.objects.values_list("outcome", flat=True)) == {"ok"}


def test_a_worker_that_is_told_to_end_gives_its_job_back_and_another_one_goes_on(
    consumer: Consumer, sandbox: Sandbox, tmp_path: Path
) -> None:
    job = create_job(consumer=consumer, kind=Job.Kind.BATCH_DIRECT, wanted={"isbns": KNOWN})
    log = tmp_path / "log"
    worker = processes.start("jobs", log)
    try:
        wait_until(lambda: sandbox.spent >= 2, worker, log=log)
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=processes.MAX_SECONDS)
    finally:
        if worker.poll() is None:
            processes.kill(worker)
    job.refresh_from_db()
    spent = sandbox.spent
    assert 2 <= spent < BATCHES
    assert (job.runner, job.done, len(stored())) == (None, spent, spent), (job.state, job.error, log.read_text())
    sandbox.clear_faults()
    Job.objects.filter(state=Job.State.WAITING).update(resume_at=job.created_at)  # its pause is over
    resume_jobs()
    run_job()
    job.refresh_from_db()
    assert (job.state, job.done, stored()) == ("succeeded", BATCHES, set(KNOWN))
    assert balance(sandbox) == (BATCHES, BATCHES)
