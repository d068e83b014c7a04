"""/livez, /readyz and /healthz answer without a key, whatever is down."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.test import Client
from django_celery_beat.models import PeriodicTask

from alexandria.alerts import snapshot
from alexandria.alerts.rules import Finding
from alexandria.alerts.services import check
from alexandria.development.sandbox.server import Sandbox
from alexandria.monitoring import health
from enrichment.books.aside import store_aside
from harvest.defaults import ensure_defaults
from harvest.models import CronState
from quota.models import Call, Consumer, DailyLedger
from tests import processes
from tests.fixtures import NOON, database_moved, known_isbns, silent_port

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def client(transactional_db) -> Iterator[Client]:
    yield Client()
    for thread in threading.enumerate():  # a check that still runs would answer the next test
        if thread.name.startswith("bounded "):
            thread.join(timeout=30)


@pytest.fixture
def redis_gone(settings) -> None:
    settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": NOWHERE}}
    settings.CELERY_BROKER_URL = NOWHERE


@pytest.fixture
def no_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests do not wait for workers and beat that do not run."""
    monkeypatch.setattr(health, "MAX_REPLY_SECONDS", 0.01)
    monkeypatch.setattr(snapshot, "SECONDS_TO_ANSWER", (0.01,))


def statuses(body: dict[str, Any]) -> dict[str, str]:
    return {name: check["status"] for name, check in body["checks"].items()}


@pytest.fixture
def patient_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker, beat or check that is slow on a busy machine is not taken for a dead one."""
    monkeypatch.setattr(health, "MAX_REPLY_SECONDS", 5)
    monkeypatch.setattr(health, "MAX_SECONDS", 30)


@pytest.mark.slow
def test_everything_is_ok_until_beat_or_a_worker_dies(
    client: Client, consumer: Consumer, sandbox: Sandbox, patient_checks: None, tmp_path: Path
) -> None:
    running = {name: processes.start(name, tmp_path / name) for name in ("worker", "jobs", "beat")}
    try:
        deadline = time.monotonic() + 60
        while (response := client.get("/healthz")).json()["status"] != "ok" and time.monotonic() < deadline:
            pass
        assert response.status_code == 200
        assert set(statuses(response.json()).values()) == {"ok"}, response.json()
        assert response.json()["checks"]["database"]["ms"] >= 0
        for name, check, detail in (
            ("beat", "beat", "no beat answers: nothing starts on schedule"),
            ("jobs", "workers", "no worker consumes the queue jobs"),
        ):
            processes.kill(running.pop(name))
            response = client.get("/healthz")
            assert (response.status_code, response.json()["status"]) == (200, "degraded")
            assert response.json()["checks"][check]["detail"] == detail
        assert statuses(response.json())["redis"] == "ok"
    finally:
        for process in running.values():
            processes.kill(process)


def test_a_cron_that_has_not_run_when_its_schedule_says_so_is_told(
    client: Client, consumer: Consumer, no_replies
) -> None:
    ensure_defaults()
    PeriodicTask.objects.update(last_run_at=NOON)  # beat sends messages, and each worker drops them as too old
    CronState.objects.update(last_tick_at=NOON - timedelta(seconds=90))
    assert statuses(client.get("/healthz").json())["crons"] == "ok"
    CronState.objects.filter(name__in=["queue-flush", "expire-leases"]).update(last_tick_at=NOON - timedelta(minutes=4))
    body = client.get("/healthz").json()
    assert (body["status"], body["checks"]["crons"]["status"]) == ("degraded", "down")
    assert "late: expire-leases (due at 2026-05-05 11:57:00 UTC), queue-flush (due at 2026-05-05 11:56:02 UTC)" in str(
        body["checks"]["crons"]
    )


def test_a_paid_answer_that_is_not_stored_is_told_by_health_metrics_and_an_alert(
    client: Client, consumer: Consumer, no_replies, settings
) -> None:
    def told() -> tuple[str, str, set[str]]:
        lines = client.get("/metrics").content.decode().splitlines()
        figures = ", ".join(line for line in lines if line.startswith("alexandria_answers_aside"))
        found = {finding.detail.partition(". They are kept")[0] for finding in check().findings if is_told(finding)}
        return client.get("/healthz").json()["checks"]["answers"]["detail"], figures, found

    def is_told(finding: Finding) -> bool:
        return finding.rule == "unstored_answers"

    waiting = 'alexandria_answers_aside{state="waiting"} %d.0, alexandria_answers_aside{state="bad"} %d.0'
    assert told() == ("all stored", waiting % (0, 0), set())
    folder = Path(settings.ANSWERS_DIR)
    folder.mkdir(parents=True)
    (folder / "1.json").write_text("{")
    assert told() == (
        "1 paid answers wait in files until the database takes them",
        waiting % (1, 0),
        {"They wait for the database: 1. They are broken: 0"},
    )
    store_aside()
    assert told() == (
        "1 paid answers cannot be stored: look at the files with the ending .bad",
        waiting % (0, 1),
        {"They wait for the database: 0. They are broken: 1"},
    )
    (folder / "1.bad").unlink()
    assert told() == ("all stored", waiting % (0, 0), set())


def test_without_redis_the_service_is_degraded_and_works(
    client: Client, consumer: Consumer, sandbox: Sandbox, redis_gone, no_replies
) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    down = ("redis", "workers", "beat")
    assert statuses(response.json()) == {name: "down" if name in down else "ok" for name in health.CHECKS}


@pytest.mark.slow
def test_without_postgresql_the_service_is_down_and_not_ready(client: Client, no_replies) -> None:
    with database_moved(port=1):
        healthy, ready = client.get("/healthz"), client.get("/readyz")
    for response in (healthy, ready):
        assert (response.status_code, response.json()["status"]) == (503, "down")
        assert statuses(response.json())["database"] == "down"
        for inside in ("127.0.0.1", "port", "postgres"):
            assert inside not in response.content.decode()
    assert statuses(healthy.json())["redis"] == "ok"


@pytest.mark.slow
def test_servers_that_hang_do_not_delay_a_probe_and_use_one_thread_however_often_it_runs(
    client: Client, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "MAX_SECONDS", 0.2)
    with silent_port() as port, database_moved(port):
        settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{port}/0"
        settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": settings.CELERY_BROKER_URL}}
        for _ in range(3):
            response = client.get("/healthz")
            assert (response.status_code, response.json()["status"]) == (503, "down")
            assert {name for name, status in statuses(response.json()).items() if status == "ok"} == {"answers"}
            assert response.json()["checks"]["database"]["detail"] == "no answer within 0.2 s"
            assert client.get("/readyz").status_code == 503
            assert client.get("/livez").status_code == 200
        waiting = [thread.name for thread in threading.enumerate() if thread.name.startswith("bounded ")]
        assert "bounded check_database" in waiting
        assert len(waiting) == len(set(waiting))


def test_all_checks_together_take_less_than_three_seconds() -> None:
    assert health.MAX_SECONDS < 3


def test_a_missing_migration_is_named_and_the_process_is_not_ready(client: Client) -> None:
    assert client.get("/readyz").json()["status"] == "ok"
    [(_, newest)] = MigrationLoader(connection).graph.leaf_nodes("harvest")
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('quota', 'later', now())")
        cursor.execute("UPDATE django_migrations SET app = 'gone' WHERE app = 'harvest' AND name = %s", [newest])
    try:
        response = client.get("/readyz")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM django_migrations WHERE name = 'later'")
            cursor.execute("UPDATE django_migrations SET app = 'harvest' WHERE app = 'gone'")
    assert response.status_code == 503
    assert response.json()["checks"]["migrations"]["detail"] == f"not applied: harvest.{newest}"
    assert response.json()["checks"]["database"]["status"] == "ok"


@pytest.mark.slow
def test_the_last_answer_of_isbndb_decides(
    api, client: Client, sandbox: Sandbox, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "CHECKS", {name: health.CHECKS[name] for name in ("database", "isbndb")})

    def isbndb() -> tuple[str, str]:
        check = client.get("/healthz").json()["checks"]["isbndb"]
        return check["status"], check["detail"]

    def ask() -> None:
        api.post("/api/enrich/batch-direct", known_isbns(1), format="json", QUERY_STRING="refresh=true")

    assert isbndb() == ("ok", "open")
    settings.ISBNDB_API_KEY = "another"
    ask()
    assert isbndb() == ("down", "did not accept our key at 2026-05-05 12:00 UTC, and has not answered since")
    Call.objects.update(status=400)  # also refused, but not because of the key
    assert isbndb() == ("ok", "open")
    Call.objects.update(status=401)
    settings.ISBNDB_API_KEY = sandbox.key
    ask()
    assert isbndb() == ("ok", "open")
    DailyLedger.objects.update(closed_at=NOON, closed_reason="secret")
    assert isbndb() == ("down", "closed the day until 2026-05-06 00:00 UTC")
    settings.ISBNDB_API_KEY = ""
    assert isbndb()[0] == "down"


def test_probes_work_with_the_ip_address_of_the_machine_over_plain_http(client: Client, settings) -> None:
    assert client.get("/livez", HTTP_HOST="10.1.2.3").status_code == 200
    assert client.get("/admin/login/", HTTP_HOST="10.1.2.3").status_code == 400
    settings.SECURE_SSL_REDIRECT = True
    statuses = [Client().get(path).status_code for path in ("/livez", "/readyz", "/metrics", "/api/docs/")]
    assert statuses == [200, 200, 200, 301]
