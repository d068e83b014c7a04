"""Starts real processes that use the database of the test."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection
from honcho.environ import parse_procfile

from alexandria.env import BASE_DIR

PASSED_SETTINGS = (
    "ISBNDB_BASE_URL",
    "ISBNDB_API_KEY",
    "ISBNDB_BATCH_SIZE",
    "ISBNDB_BATCH_PRICE",
    "ISBNDB_TIMEOUT_SECONDS",
    "QUOTA_DAILY_LIMIT",
    "QUOTA_SAFETY_BUFFER",
    "QUOTA_MAX_RPS",
    "QUOTA_ENFORCEMENT",
    "API_REQUESTS_PER_MINUTE",
    "ANSWERS_DIR",
)
"""The processes get these settings as the test has set them."""

MAX_SECONDS = 300
"""How long `wait_until` waits, so that a test does not hang."""


def environment() -> dict[str, str]:
    """The environment of a process that uses the database and the settings of the test."""
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    passed = {name: str(getattr(settings, name)) for name in PASSED_SETTINGS}
    return os.environ | {"DATABASE_URL": url.geturl()} | passed


def start(name: str, log: Path, **variables: str) -> subprocess.Popen[str]:
    """Starts a process of the Procfile in its own session. `variables` are added to its environment."""
    command = parse_procfile((BASE_DIR / "Procfile").read_text()).processes[name]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("w") as output:
        return subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            cwd=BASE_DIR,
            env=environment() | {"PATH": path} | variables,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        )


def kill(process: subprocess.Popen[str]) -> None:
    """Kills the whole session of a process, as `kill -9` does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_until(
    condition: Callable[[], object], process: subprocess.Popen[str] | None = None, *, log: Path | None = None
) -> None:
    """Waits until the condition is true. Fails when the process ends first, or when it takes too long.

    `log`: what the process writes, to be shown then.
    """
    deadline = time.monotonic() + MAX_SECONDS
    while not condition():
        assert process is None or process.poll() is None, log.read_text() if log else process.communicate()
        assert time.monotonic() < deadline, log.read_text() if log else ""
        time.sleep(0.02)


def wait_to_be_killed(*args: Any, **options: Any) -> Any:
    """In a process that a test kills: prints "waiting", and waits."""
    sys.stdout.write("waiting\n")  # in one piece, because forks share the pipe
    sys.stdout.flush()
    time.sleep(3600)
