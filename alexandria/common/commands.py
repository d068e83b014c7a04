"""The base class of our commands."""

from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandParser


class ToolCommand(BaseCommand):
    """Prints its `help` line by line, and exits with 1 after wrong usage.

    argparse exits with 2. Our commands use 2 for results of their own.
    """

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)
        leave = parser.exit
        parser.exit = lambda status=0, message=None: leave(1 if status == 2 else status, message)  # type: ignore[method-assign]
        return parser
