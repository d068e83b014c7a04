"""manage.py on a machine where nothing is configured and nothing runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alexandria.env import BASE_DIR
from tests.alexandria.conftest import NOTHING_SET

pytestmark = pytest.mark.slow


EACH_COMMAND = """
import json, sys, manage
results = []
for command in json.loads(sys.argv[1]):
    sys.argv = ["manage.py", *command]
    try:
        manage.main()
    except SystemExit as end:
        results.append(end.code)
print(json.dumps(results))
"""
"""Runs commands of manage.py in one process, because each process needs a second to start. Prints how they exit."""


def manage(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return python(home, "manage.py", *arguments)


def python(home: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | NOTHING_SET | {"ALEXANDRIA_DATA_DIR": str(home)} | environment,
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_it_reports_what_it_starts_and_that_there_are_no_tables_yet(home: Path) -> None:
    started = (
        f"Started the embedded postgres and redis in {home}: DATABASE_URL and REDIS_URL are not set. "
        "`manage.py embedded down` stops them.\n"
    )
    no_tables = "The database has no tables yet. Run manage.py migrate.\n"

    first = manage(home, "quota_status")
    assert (first.returncode, first.stdout) == (1, "")
    assert started in first.stderr
    assert first.stderr.endswith(no_tables)
    commands = [
        ["create_api_key", "reader"],
        ["quota_adjust", "--calls=1", "--reason=test"],
        ["isbndb_key"],
        ["createsuperuser", "--noinput", "--username=admin", "--email="],
    ]
    isbndb = {"ISBNDB_API_KEY": "some-key", "ISBNDB_BASE_URL": "http://127.0.0.1:1"}
    others = python(home, "-c", EACH_COMMAND, json.dumps(commands), **isbndb)
    assert others.stderr == ""
    assert json.loads(others.stdout.splitlines()[-1]) == [no_tables.strip()] * len(commands)


def test_an_embedded_service_that_cannot_start_is_reported_without_a_traceback(home: Path) -> None:
    home.mkdir()
    home.chmod(0o777)
    result = manage(home, "quota_status")
    assert result.returncode == 1
    assert result.stderr.startswith("Alexandria can't start: ")
    assert "others can write to it" in result.stderr
    assert "Traceback" not in result.stderr
