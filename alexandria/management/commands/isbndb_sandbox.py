"""`manage.py isbndb_sandbox`: a stand-in for ISBNdb on this machine."""

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from alexandria.common.commands import ToolCommand
from alexandria.development.sandbox import Sandbox, control

_ENDS = {signal.SIGINT, signal.SIGTERM}


class Command(ToolCommand):
    help = f"""\
Runs a stand-in for ISBNdb v2 on this machine until it is interrupted: a real HTTP server that counts every request
which carries the key, refuses what comes too fast or beyond the daily limit, knows several hundred real books, makes
up the others (always the same for the same ISBN) and does not know about one ISBN in twelve. It needs no database.

It is steered, without the key and uncounted, under /_sandbox/ with JSON:
{control.HELP}
For example: curl -d '{{"kind": "status", "status": 500, "times": 2}}' http://127.0.0.1:PORT/_sandbox/faults"""
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=0, help="0, the default, takes any free port")
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument(
            "--key", default="sandbox-key", help="what the Authorization header must hold (%(default)s)"
        )
        parser.add_argument(
            "--daily-limit", type=int, default=15_000, metavar="CALLS", help="calls a day (%(default)s)"
        )
        parser.add_argument(
            "--max-rps", type=int, default=3, help="requests in any one second, 0 for no limit (%(default)s)"
        )
        parser.add_argument("--state-file", type=Path, metavar="FILE", help="keeps the count of the day over a restart")
        parser.add_argument(
            "--latency", type=float, default=0.0, metavar="SECONDS", help="a first fault of kind latency"
        )
        parser.add_argument("--quota-status", type=int, choices=[429, 403], default=429, help="beyond the daily limit")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            control.limits({"daily_limit": options["daily_limit"], "max_rps": options["max_rps"] or None})
            sandbox = Sandbox(
                key=options["key"],
                daily_limit=options["daily_limit"],
                max_rps=options["max_rps"] or None,
                state_file=options["state_file"],
                port=options["port"],
                host=options["host"],
                quota_status=options["quota_status"],
            )
            if options["latency"]:
                sandbox.add_fault("latency", seconds=options["latency"])
        except (OSError, ValueError) as error:
            raise CommandError(str(error)) from error
        with ExitStack() as stack:
            # Blocked before the first thread starts, so that a signal waits for sigwait and hits no other thread.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
            stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
            try:
                stack.enter_context(sandbox)
            except (OSError, OverflowError) as error:
                address = f"{options['host']}:{options['port']}"
                raise CommandError(f"The sandbox cannot listen on {address}: {error}") from error
            self.stdout.write(f"Sandbox ISBNdb on {sandbox.url} with the key {sandbox.key}")
            self.stdout.flush()
            signal.sigwait(_ENDS)
