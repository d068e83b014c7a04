"""`manage.py isbndb_sandbox`: a replacement for ISBNdb on this machine."""

import signal
from argparse import BooleanOptionalAction
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from alexandria.common.commands import ToolCommand
from alexandria.development.sandbox import Sandbox, control
from alexandria.development.sandbox.plan import BATCH_PRICES, LIMIT_ANSWERS, RATE_HEADERS, Plan

CONTRACT = Plan()
END_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class Command(ToolCommand):
    help = f"""\
Runs a replacement for ISBNdb v2 on this machine until it is interrupted. It is a real HTTP server: it counts the calls
of every request that has the key, and refuses requests that are too fast or above the daily limit. It knows several
hundred real books, and invents the others (always the same book for the same ISBN). It does not know about one ISBN in
twelve. It needs no database.

A batch costs a call for each ISBN in it, as ISBNdb's contract says, or one call (--batch-price=request). The feed of
updates costs nothing, and every other request one call. A batch that passes the daily limit is refused as a whole, and
counted all the same. GET /key is answered and counted above the limit, too.

You control it with JSON under /_sandbox/. These requests need no key and are not counted:
{control.HELP}
For example: curl -d '{{"kind": "status", "status": 500, "times": 2}}' http://127.0.0.1:PORT/_sandbox/faults"""
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--port", type=int, default=0, help="0, the default, takes a free port")
        add("--host", default="127.0.0.1")
        add("--key", default="sandbox-key", help="the expected Authorization header (%(default)s)")
        limit = "calls a day (%(default)s); a trial has 500"
        add("--daily-limit", type=int, default=15_000, metavar="CALLS", help=limit)
        add("--max-rps", type=int, default=3, help="requests in any one second, 0 for no limit (%(default)s)")
        add("--state-file", type=Path, metavar="FILE", help="keeps the count of the day over a restart")
        latency = "starts with a fault of the kind latency"
        add("--latency", type=float, default=0.0, metavar="SECONDS", help=latency)
        self._add_terms(add)

    def _add_terms(self, add: Callable[..., Any]) -> None:
        """The terms of the plan, by default those of the contract."""

        def term(option: str, help_text: str, **options: Any) -> None:
            name = option.strip("-").replace("-", "_")
            add(option, default=getattr(CONTRACT, name), help=f"{help_text} (%(default)s)", **options)

        price: dict[str, Any] = {"type": int, "choices": [0, 1]}
        batch = "a batch costs one call (request), or one for each ISBN in it"
        term("--batch-price", batch, choices=BATCH_PRICES)
        term("--key-price", "calls for GET /key", **price)
        term("--feed-price", "calls for a page of the feed of updates", **price)
        term("--limit-answer", "the answer above the daily limit", choices=LIMIT_ANSWERS)
        term("--counter-lag", "GET /key tells the count of so long ago", type=float, metavar="SECONDS")
        failed = "whether 429, 5xx and refusals above the daily limit cost calls (they do)"
        add("--charge-failed", action=BooleanOptionalAction, default=CONTRACT.charge_failed, help=failed)
        header = "sends this header; can be repeated (none)"
        add("--rate-header", dest="rate_headers", action="append", choices=RATE_HEADERS, default=[], help=header)

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
                **{term.name: options[term.name] for term in fields(Plan)},
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
            price = "by the request" if options["batch_price"] == "request" else "by the ISBN"
            self.stdout.write(f"Sandbox ISBNdb on {sandbox.url} counts batches {price}, with the key {sandbox.key}")
            self.stdout.flush()
            signal.sigwait(END_SIGNALS)
