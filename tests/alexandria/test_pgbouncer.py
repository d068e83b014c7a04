"""Alexandria through a real PgBouncer in transaction mode, with exactly the settings of docs/deploy.md."""

import json
from collections.abc import Iterator

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection

from alexandria.development.sandbox.server import Sandbox
from alexandria.management.commands import smoke
from enrichment.models import Job
from quota.models import Call, Consumer
from quota.selectors.status import check_ledger, get_status
from quota.services import reservations
from tests import processes
from tests.alexandria.serving import run, serving, until
from tests.bouncer import PROGRAM, Bouncer, bouncing
from tests.fixtures import NOON, SetClock, balance, known_isbns
from tests.quota.test_concurrency import granted, race

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is missing: `make pgbouncer` installs it"),
]


@pytest.fixture
def bouncer(set_clock: SetClock) -> Iterator[Bouncer]:
    with bouncing() as running:
        yield running


def through(bouncer: Bouncer) -> dict[str, str]:
    """The environment of a process that uses it, with the current settings of the test."""
    return processes.environment() | bouncer.environment


def test_64_processes_on_8_connections_get_exactly_the_calls_that_are_left(
    bouncer: Bouncer, no_waits: None, settings
) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 1000, 300
    reservations.increment(200)
    Consumer.objects.create(slug="racer")
    racers = race(1, **bouncer.environment)
    assert granted(racers) == 500 == Call.objects.filter(consumer__slug="racer").count()
    status = get_status()
    assert (status.used, status.reserved, status.remaining) == (700, 0, 0)
    assert check_ledger(status.day) == []


def test_web_and_jobs_work_through_it_with_exact_figures(
    bouncer: Bouncer, sandbox: Sandbox, settings, key: str, capsys, monkeypatch
) -> None:
    settings.ISBNDB_BATCH_SIZE = 5
    monkeypatch.setattr(smoke, "now", lambda: NOON)
    with serving("jobs", environment=through(bouncer)) as client:
        call_command("smoke", "--server", str(client.base_url).rstrip("/"), "--api-key", key, "--json")
        checks = json.loads(capsys.readouterr().out)
        assert {check["outcome"] for check in checks} == {"ok", "skipped"}
        body = {"isbns": known_isbns(40)}
        headers = {"Authorization": f"Api-Key {key}", "Prefer": "respond-async"}
        accepted = client.post("/api/enrich/batch-direct", json=body, headers=headers)
        assert accepted.status_code == 202, accepted.text
        until(lambda: Job.objects.get().ended_at)
    assert (Job.objects.get().state, Job.objects.get().done) == ("succeeded", 40)
    assert balance(sandbox) == (10, 10)
    checked = run(through(bouncer), "quota_status", "--check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "The ledger agrees with its rows." in checked.stdout


def test_a_process_without_the_pooler_setting_is_refused_and_sends_nothing(bouncer: Bouncer) -> None:
    refused = run(through(bouncer) | {"DATABASE_POOLED": "off"}, "quota_status")
    assert refused.returncode == 1
    assert "database did not answer" in refused.stderr


def test_the_time_outs_of_the_role_hold_in_every_session_also_after_an_interrupted_migration(
    bouncer: Bouncer,
) -> None:
    role = f'"{connection.settings_dict["USER"]}" IN DATABASE "{connection.settings_dict["NAME"]}"'
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER ROLE {role} SET lock_timeout = '2s'")
        cursor.execute(f"ALTER ROLE {role} SET statement_timeout = '15s'")
    try:
        begun = "from django.core.management.sql import emit_pre_migrate_signal as emit; emit(0, False, 'default')"
        assert run(through(bouncer), "shell", "-v0", "-c", begun).returncode == 0
        with psycopg.connect(bouncer.url, prepare_threshold=None) as session:
            bounds = session.execute("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
            assert bounds.fetchone() == ("2s", "15s")
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER ROLE {role} RESET ALL")
