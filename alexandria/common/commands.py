"""The base class of our commands."""

import logging
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandParser, DjangoHelpFormatter
from rich.console import Console

EXIT_CLOSED = 141
"""The exit code when the reader of the output is gone, as a shell reports a program that SIGPIPE has ended."""

SHOWS_THE_LOG = 2
"""The verbosity from which on the log is shown."""


class HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's, which shows a command's own options first. Keeps the lines of the description."""


class ToolCommand(BaseCommand):
    """Prints its `help` line by line, shows the log only with `-v 2`, and exits with 1 after wrong usage.

    argparse exits with 2. Our commands use 2 for results of their own.
    """

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, formatter_class=HelpFormatter, **kwargs)
        leave = parser.exit
        parser.exit = lambda status=0, message=None: leave(1 if status == 2 else status, message)  # type: ignore[method-assign]
        return parser

    def execute(self, *args: Any, **options: Any) -> str | None:
        with without_log(hidden=options["verbosity"] < SHOWS_THE_LOG):
            return super().execute(*args, **options)


@contextmanager
def without_log(*, hidden: bool) -> Iterator[None]:
    """Hides the log of this process, if `hidden`: a person reads what the command says, and an error stands once."""
    before = logging.root.manager.disable
    if hidden:
        logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


class ToolConsole(Console):
    """A console for which a reader that is gone is an error like for any other output. rich exits with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError
