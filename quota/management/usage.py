"""What commands whose exit codes mean something do about wrong options."""

from django.core.management.base import CommandParser


def exits_with_1(parser: CommandParser) -> CommandParser:
    """The parser, ending with 1 when it does not understand: argparse would with 2, which has a meaning of its own."""
    leave = parser.exit
    parser.exit = lambda status=0, message=None: leave(1 if status == 2 else status, message)  # type: ignore[method-assign]
    return parser
