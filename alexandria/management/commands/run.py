"""`manage.py run`: runs everything on this machine until Ctrl-C, and prints how to use it."""

import argparse
import contextlib
import http.client
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser
from django.db import connection

from alexandria.common.commands import ToolCommand
from alexandria.development import stack
from alexandria.development.embedded import servers
from alexandria.development.embedded.files import write_private
from quota.models import Consumer

MAX_PORT = 65_535
ADMIN = "admin"
CONSUMER = "make-run"
ISBNS = ["9780735211292", "0-06-231609-5", "978-0-593-13520-4"]


class Command(ToolCommand):
    help = """Starts the embedded services, the sandbox (if ISBNDB_API_KEY is not set), web, workers and beat, for this
machine only. Prints their addresses and keys. Ctrl-C stops everything, with exit code 0. Exit code 1: a part does not
start or has ended; the message names it."""
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--port",
            type=port_number,
            default=settings.PORT,
            help="the port of web (default: PORT, otherwise 8000; 0 takes a free port)",
        )

    def handle(self, *args: Any, port: int, **options: Any) -> None:
        data_dir = servers.data_dir()
        with contextlib.suppress(KeyboardInterrupt), alone_on_ctrl_c():
            try:
                with stack.running(data_dir=data_dir, port=port, output=sys.stdout) as running:
                    self.stdout.write(welcome(running, data_dir))
                    self.stdout.flush()
                    running.wait()
            except (stack.StackError, servers.EmbeddedError) as error:
                raise CommandError(str(error)) from error


@contextlib.contextmanager
def alone_on_ctrl_c() -> Iterator[None]:
    """Under make, makes sure that Ctrl-C reaches only us: otherwise make reports a failure, whatever we return.

    We become the foreground group of the terminal, like a job of a shell. Ctrl-Z has no effect, because make would
    still wait.
    """
    group = os.getpgrp()
    if "MAKELEVEL" not in os.environ or group == os.getpid() or foreground_group() != group:
        yield
        return
    for number in (signal.SIGTTOU, signal.SIGTSTP):  # SIGTTOU would stop us when we return the terminal
        signal.signal(number, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(sys.stdin.fileno(), os.getpid())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the terminal can be closed
            os.tcsetpgrp(sys.stdin.fileno(), group)


def foreground_group() -> int | None:
    """The process group that gets the Ctrl-C of the terminal. None without a terminal."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno())
    except (OSError, ValueError):
        return None


def port_number(text: str) -> int:
    """The port of a command line argument. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port. Use a number from 0 to {MAX_PORT}.")
    return int(text)


def welcome(running: stack.Stack, data_dir: Path) -> str:
    """The text with the addresses, the admin user, an API key and a curl command."""
    url = running.base_url
    key = api_key(running, data_dir / "api_key")
    body = json.dumps({"isbns": ISBNS})
    curl = (
        f"curl -sS {url}/api/enrich/batch-direct -H 'Authorization: Api-Key {key}' "
        f"-H 'Content-Type: application/json' -d '{body}'"
    )
    password = admin_password(data_dir / "admin_password")
    connection.close()
    lines = {
        "API docs": f"{url}/api/docs/",
        "Admin": f"{url}/admin/  user {ADMIN}, {password}",
        "Quota": f"{url}/api/quota/status",
        "Health": f"{url}/healthz",
        "ISBNdb": running.environment.get("ISBNDB_BASE_URL", ""),
        "API key": key,
        "Try it": curl,
        "In a shell": shell(running, data_dir, key),
        "Stop": "Ctrl-C",
    }
    return "\n".join(["", *(f"  {label:10} {text}" for label, text in lines.items()), ""])


def shell(running: stack.Stack, data_dir: Path, key: str) -> str:
    """A shell command that sets $URL and $KEY for curl, and lets commands of manage.py use the stack's ISBNdb."""
    variables = {"URL": running.base_url, "KEY": key, "DEBUG": "on"}
    if data_dir != servers.DEFAULT_DATA_DIR:
        variables["ALEXANDRIA_DATA_DIR"] = str(data_dir)
    has_sandbox = any(process.name == "sandbox" for process in running.processes)
    if has_sandbox:  # otherwise they are set in the shell or in `.env`
        variables |= {name: running.environment[name] for name in ("ISBNDB_BASE_URL", "ISBNDB_API_KEY")}
    path = data_dir / "run.env"
    write_private(path, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()))
    return f". {shlex.quote(str(path))}"


def admin_password(path: Path) -> str:
    """Creates the admin user once. Returns its password, unless someone has changed it since."""
    password = servers.kept_secret(path)
    users = get_user_model().objects
    user = users.filter(username=ADMIN).first()
    if user is None:
        users.create_superuser(ADMIN, password=password)
    changed = user is not None and not user.check_password(password)
    return "with the password that you set in the admin" if changed else f"password {password}"


def api_key(running: stack.Stack, path: Path) -> str:
    """The key in the file `path`, if the service accepts it. Otherwise a new key, which is stored there."""
    with contextlib.suppress(FileNotFoundError):
        key = path.read_text()
        web = http.client.HTTPConnection(running.base_url.removeprefix("http://"), timeout=10)
        with contextlib.closing(web):
            web.request("GET", "/api/quota/status", headers={"Authorization": f"Api-Key {key}"})
            if web.getresponse().status == http.HTTPStatus.OK:
                return key
    consumer = ["--consumer", CONSUMER] if Consumer.objects.filter(slug=CONSUMER).exists() else []
    key = running.manage("create_api_key", CONSUMER, *consumer).strip()
    write_private(path, key)
    return key
