"""`manage.py isbndb_sandbox`: a replacement for ISBNdb on this machine."""

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from alexandria.common.commands import ToolCommand
from alexandria.development.sandbox import Sandbox, control

END_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class Command(ToolCommand):
    help = f"""\
Runs a replacement for ISBNdb v2 on this machine until it is interrupted. It is a real HTTP server: it counts every
request that has the key, and refuses requests that are too fast or above the daily limit. It knows several hundred
real books, and invents the others (always the same book for the same ISBN). It does not know about one ISBN in twelve.
It needs no database.

You control it with JSON under /_sandbox/. These requests need no key and are not counted:
{control.HELP}
For example: curl -d '{{"kind": "status", "status": 500, "times": 2}}' http://127.0.0.1:PORT/_sandbox/faults"""
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free port")
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--key", default="sandbox-key", help="the expected Authorization header (%(default)s)")
        parser.add_argument(
            "--daily-limit", type=int, default=15_000, metavar="CALLS", help="calls a day (%(default)s)"
        )
        parser.add_argument(
            "--max-rps", type=int, default=3, help="requests in any one second, 0 for no limit (%(default)s)"
        )
        parser.add_argument("--state-file", type=Path, metavar="FILE", help="keeps the count of the day over a restart")
        parser.add_argument(
            "--latency", type=float, default=0.0, metavar="SECONDS", help="starts with a fault of the kind latency"
        )
        parser.add_argument(
            "--quota-status",
            type=int,
            choices=[429, 403],
            default=429,
            help="the status above the daily limit (%(default)s)",
        )

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
            # Block the signals before the first thread starts. So they reach sigwait and no other thread.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, END_SIGNALS)
            stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
            try:
                stack.enter_context(sandbox)
            except (OSError, OverflowError) as error:
                address = f"{options['host']}:{options['port']}"
                raise CommandError(f"The sandbox cannot listen on {address}: {error}") from error
            self.stdout.write(f"Sandbox ISBNdb on {sandbox.url} with the key {sandbox.key}")
            self.stdout.flush()
            signal.sigwait(END_SIGNALS)
