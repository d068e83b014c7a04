"""Redis hangs, is stopped while everything runs, loses its data and comes back. The quota does not depend on it."""

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from alexandria.development.embedded import servers
from alexandria.development.sandbox.server import Sandbox
from enrichment.models import Job
from tests import processes
from tests.alexandria.serving import run, serving, until
from tests.fixtures import balance, known_isbns

pytestmark = pytest.mark.slow


def test_while_redis_hangs_or_is_away_calls_are_exact_jobs_are_kept_and_later_they_end(
    home: Path, sandbox: Sandbox, settings, key: str
) -> None:
    settings.ISBNDB_BATCH_SIZE = 2
    settings.API_REQUESTS_PER_MINUTE = 600
    servers.start(["redis"], home)
    environment = processes.environment() | {"REDIS_URL": servers.redis_url(home)}
    wanted = iter(known_isbns(52))
    later = {"Prefer": "respond-async"}

    with serving("jobs", environment=environment) as client:
        client.headers["Authorization"] = f"Api-Key {key}"

        def enrich(count: int, **headers: str) -> tuple[int, dict[str, object]]:
            body = {"isbns": [next(wanted) for _ in range(count)]}
            answer = client.post("/api/enrich/batch-direct", json=body, headers=headers)
            return answer.status_code, answer.json()

        status, body = enrich(2, **later)
        assert (status, body["notice"]) == (202, None)
        until(lambda: Job.objects.get().ended_at)
        with redis.Redis.from_url(servers.redis_url(home)) as broker:
            until(lambda: not broker.exists("unacked"))  # otherwise Celery's worker ends
            pid = broker.info("server")["process_id"]

        os.kill(pid, signal.SIGSTOP)  # as many posts as web has threads, and more: each would wait for ever
        with ThreadPoolExecutor(20) as clients:
            posts = [clients.submit(enrich, 2, **later) for _ in range(20)]
            answers = [post.result() for post in posts]
            told = {(status, "within 15 seconds" in str(body["notice"])) for status, body in answers}
            assert told == {(202, True)}
        assert enrich(0)[0] == 400
        assert client.get("/api/quota/status").json()["used"] == 1
        assert client.get("/healthz").json()["checks"]["redis"]["status"] == "down"
        os.kill(pid, signal.SIGCONT)
        resume(environment)
        until(lambda: not Job.objects.filter(ended_at=None).exists())

        servers.stop(["redis"], home)
        shutil.rmtree(home / "redis")
        assert enrich(4)[1]["api_calls"] == 2
        assert enrich(4, **later)[0] == 202
        health = client.get("/healthz")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert health.json()["checks"]["redis"]["status"] == "down"
        assert client.get("/api/quota/status").json()["used"] == sandbox.spent == 23

        servers.start(["redis"], home)
        resume(environment)
        until(lambda: not Job.objects.filter(ended_at=None).exists())
        assert client.get("/healthz").json()["checks"]["redis"]["status"] == "ok"
        assert enrich(2)[1]["enriched"] == 2

    assert set(Job.objects.values_list("state", "done")) == {("succeeded", 2), ("succeeded", 4)}
    assert balance(sandbox) == (26, 26)


def resume(environment: dict[str, str]) -> None:
    """Does what beat lets a worker do every 5 seconds."""
    resumed = run(environment, "shell", "-v0", "-c", "from enrichment.tasks import resume_jobs; resume_jobs()")
    assert resumed.returncode == 0, resumed.stderr
