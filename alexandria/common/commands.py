"""What the commands of all apps have in common."""

from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandParser


class ToolCommand(BaseCommand):
    """A command whose `help` is shown line by line, and which leaves with 1 when it does not understand its options.

    argparse leaves with 2, which here is free for what a command means by it.
    """

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)
        leave = parser.exit
        parser.exit = lambda status=0, message=None: leave(1 if status == 2 else status, message)  # type: ignore[method-assign]
        return parser
