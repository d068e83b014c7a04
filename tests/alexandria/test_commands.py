"""What is the same for all commands of manage.py."""

import logging
import re
import subprocess
import sys
from io import StringIO

import pytest
from django.core.management import BaseCommand, call_command, get_commands, load_command_class
from django.core.management.base import DjangoHelpFormatter

from alexandria.common.commands import ToolCommand
from alexandria.development.sandbox.server import Sandbox
from alexandria.env import BASE_DIR
from quota.models import Consumer
from tests import processes
from tests.fixtures import known_isbns

OURS = sorted(
    name
    for name, app in get_commands().items()
    if isinstance(app, str) and app.partition(".")[0] in {"alexandria", "quota", "enrichment", "harvest"}
)


def command(name: str) -> BaseCommand:
    return load_command_class(get_commands()[name], name)


@pytest.mark.parametrize("name", OURS)
def test_a_commands_own_options_come_first_in_its_help(name: str) -> None:
    assert isinstance(command(name), ToolCommand)
    text = command(name).create_parser("manage.py", name).format_help()
    options = re.findall(r"^  (?:-\w(?: \S+)?, )?(--[a-z-]+)", text, re.MULTILINE)[1:]  # without --help
    own = [option not in DjangoHelpFormatter.show_last for option in options]
    assert own == sorted(own, reverse=True), options


@pytest.mark.parametrize(("verbosity", "logs"), [(1, False), (2, True)])
def test_a_command_logs_only_with_v_2(
    verbosity: int, logs: bool, sandbox: Sandbox, consumer: Consumer, tmp_path, caplog: pytest.LogCaptureFixture
) -> None:
    listed = tmp_path / "isbns.txt"
    listed.write_text("\n".join(known_isbns(2)))
    said = StringIO()
    with caplog.at_level(logging.INFO):
        call_command("enrich_isbns", str(listed), "--consumer", consumer.slug, verbosity=verbosity, stdout=said)
        logging.getLogger("after").warning("The log is back.")
    assert "enriched: 2" in said.getvalue()
    assert ("isbndb.call" in caplog.text, "The log is back." in caplog.text) == (logs, True)


AS_A_PIPE_ENDS = """
import os, sys, manage
reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 1)
sys.argv = ["manage.py", *sys.argv[1:]]
manage.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["quota_status", "--json"], ["help"]])
def test_a_closed_pipe_is_no_traceback(arguments: list[str], transactional_db: None) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", AS_A_PIPE_ENDS, *arguments],
        cwd=BASE_DIR,
        env=processes.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["create_api_key", "reader"], ["migrate"]])
def test_a_database_out_of_reach_is_one_line(arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=BASE_DIR,
        env=processes.environment() | {"DATABASE_URL": "postgres://user:hunter2@127.0.0.1:1/books"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("The database does not answer")
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stderr
