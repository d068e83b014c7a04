"""PostgreSQL stops at once, or has too few connections: no paid answer is lost, and the service is back soon."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from alexandria.development.embedded import postgres, servers
from alexandria.development.embedded.postgres import Postgres
from alexandria.development.sandbox.server import Sandbox
from tests import processes
from tests.alexandria.serving import run, serving, until
from tests.fixtures import known_isbns

pytestmark = pytest.mark.slow

CLIENTS = 60
MAX_CONNECTIONS = 20
KNOWN = iter(known_isbns(6 * CLIENTS))
BATCH = "/api/enrich/batch-direct"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(max_rps=None, batch_price="request") as sandbox:
        yield sandbox


@pytest.fixture
def environment(
    home: Path, sandbox: Sandbox, tmp_path: Path, db: None, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Of a service with a PostgreSQL of its own, which takes few connections."""
    monkeypatch.setitem(postgres.SETTINGS, "max_connections", MAX_CONNECTIONS)
    servers.start(["postgres"], home)
    ours = {
        "DATABASE_URL": servers.database_url(home),
        "ISBNDB_BASE_URL": sandbox.url,
        "ISBNDB_API_KEY": sandbox.key,
        "ISBNDB_BATCH_PRICE": "request",
        "ANSWERS_DIR": str(tmp_path / "answers"),
        "QUOTA_MAX_RPS": "50",
        "API_REQUESTS_PER_MINUTE": "0",
        "MAX_LONG_REQUESTS": str(CLIENTS),
        "WEB_CONCURRENCY": "2",
        "WEB_THREADS": str(CLIENTS),
    }
    environment = processes.environment() | ours
    migrated = run(environment, "migrate", "-v0")
    assert migrated.returncode == 0, migrated.stderr
    return environment


def test_no_paid_answer_is_lost_and_the_service_is_back_by_itself(
    environment: dict[str, str], home: Path, sandbox: Sandbox
) -> None:
    made = run(environment, "create_api_key", "reader")
    assert made.returncode == 0, made.stderr

    def ledger_and_books() -> tuple[Any, ...]:
        with closing(psycopg.connect(servers.database_url(home))) as server:
            used, reserved = server.execute("SELECT used, reserved FROM quota_dailyledger").fetchone() or (0, 0)
            [books] = server.execute("SELECT count(*) FROM enrichment_edition").fetchone() or (0,)
        return used, reserved, books

    def everything_is_stored() -> bool:
        """A worker stores what was put aside every 5 seconds."""
        run(environment, "shell", "-v0", "-c", "from enrichment.tasks import resume_jobs; resume_jobs()")
        return ledger_and_books() == (sandbox.spent, 0, sandbox.spent)

    with serving(environment=environment) as client, ThreadPoolExecutor(CLIENTS) as threads:
        client.headers["Authorization"] = f"Api-Key {made.stdout.strip()}"

        def enrich(isbn: str) -> int:
            with httpx2.Client(base_url=client.base_url, headers=client.headers, timeout=120) as one:
                return one.post(BATCH, json={"isbns": [isbn]}).status_code

        assert enrich(next(KNOWN)) == 200

        sandbox.add_fault("latency", seconds=1)
        post = threads.submit(enrich, next(KNOWN))
        until(lambda: sandbox.spent == 2)  # it is paid, and its answer is on the way
        pid = Postgres(home).pid()
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)  # the immediate stop
        until(lambda: not Postgres(home).answers())
        servers.start(["postgres"], home)
        assert post.result() in {200, 503}
        until(everything_is_stored)
        assert enrich(next(KNOWN)) == 200

        sandbox.clear_faults()
        sandbox.add_fault("latency", seconds=5)  # each request that is under way has a connection
        answered = list(threads.map(enrich, [next(KNOWN) for _ in range(2 * CLIENTS)]))
        refused = Postgres(home).log.read_text().count("too many clients already")
        assert refused, "there are connections enough: the test shows nothing"
        assert set(answered) <= {200, 503}, Counter(answered)
        sandbox.clear_faults()
        until(lambda: enrich(next(KNOWN)) == 200)
        until(everything_is_stored)
    assert answered.count(200) + 4 <= sandbox.spent
