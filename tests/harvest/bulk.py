"""Runs `manage.py bulk_author_harvest` in this process or in a separate one."""

import json
import subprocess
import sys
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from django.core.management import CommandError, call_command

from alexandria.development.sandbox.server import Sandbox
from alexandria.env import BASE_DIR

COMMAND = [sys.executable, str(BASE_DIR / "manage.py"), "bulk_author_harvest"]


@dataclass
class Ended:
    """The result of a run: its exit code, the objects that it printed, and its message on stderr."""

    code: int
    events: list[dict[str, Any]]
    message: str

    @property
    def summary(self) -> dict[str, Any]:
        assert self.events[-1]["event"] == "summary"
        return self.events[-1]

    def named(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.events if each["event"] == event]


def harvest(*arguments: str | Path) -> Ended:
    """Runs it in this process, with --json."""
    out, code, message = StringIO(), 0, ""
    try:
        call_command("bulk_author_harvest", *map(str, arguments), "--json", stdout=out)
    except CommandError as error:
        code, message = error.returncode, str(error)
    return Ended(code, [json.loads(line) for line in out.getvalue().splitlines()], message)


def start(*arguments: str | Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Starts it in a separate process."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def a_list(folder: Path, *names: str) -> Path:
    path = folder / "authors.txt"
    path.write_text("\n".join(names))
    return path


def pages_asked(sandbox: Sandbox) -> list[tuple[str, int]]:
    """The authors and pages that ISBNdb was asked for, in order."""
    return [
        (unquote(request["path"].rpartition("/")[2]), int(parse_qs(request["query"])["page"][0]))
        for request in sandbox.requests
        if request["path"].startswith("/author/")
    ]
