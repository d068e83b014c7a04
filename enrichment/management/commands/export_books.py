"""`manage.py export_books`: writes the stored books to a file or to standard output."""

import os
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import track

from alexandria.common.commands import EXIT_CLOSED, ToolCommand
from alexandria.common.database import OUT_OF_REACH
from alexandria.common.text import counted
from enrichment.exports.formats import FORMATS
from enrichment.models import Edition
from enrichment.selectors.catalogue import Criteria, find_books
from enrichment.selectors.exports import exported_books

STANDARD_OUTPUT = "-"


class Command(ToolCommand):
    help = """\
Writes the stored books, by ISBN, in any of four formats (docs/exports.md). It spends no call. A file appears under its
name when it is complete, and replaces the one before.

exit codes:
  0    every book is written
  1    wrong usage, the database does not answer, or the file cannot be written
  130  interrupted
  141  the reader of the output is gone
  143  terminated"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", required=True, choices=list(FORMATS), help="the format of the file")
        parser.add_argument(
            "--since",
            type=moment,
            metavar="DATE",
            help="only books whose content is new or has changed since this day or time, such as 2026-05-01 or "
            "2026-05-01T12:00Z; in UTC unless it says otherwise",
        )
        parser.add_argument(
            "--output",
            default=STANDARD_OUTPUT,
            metavar="FILE",
            help="where to write; - is standard output, as without it",
        )

    def handle(self, *args: Any, since: datetime | None, output: str, **options: Any) -> None:
        self._written = 0
        try:
            with self._opened(output) as file:
                for part in FORMATS[options["format"]].file(self._books(since)):
                    file.write(part)
        except BrokenPipeError as error:
            # Otherwise Python would try to write the rest when it ends, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise CommandError("The reader of the output is gone.", returncode=EXIT_CLOSED) from error
        except OSError as error:
            raise CommandError(f"{output}: {error.strerror}.") from error
        except OUT_OF_REACH as error:
            raise CommandError(f"The database does not answer, so the export is not complete: {error}") from error
        where = "standard output" if output == STANDARD_OUTPUT else output
        self.stderr.write(f"{counted(self._written, 'book')} written to {where}.", style_func=str)

    def _books(self, since: datetime | None) -> Iterator[Edition]:
        """The books, with a progress bar where a person can see it."""
        books = find_books(Criteria(updated_since=since))
        console = Console(stderr=True)
        found = exported_books(books)
        if console.is_terminal:
            found = iter(track(found, "Books", total=books.count(), console=console))
        for edition in found:
            yield edition
            self._written += 1

    @contextmanager
    def _opened(self, output: str) -> Iterator[BinaryIO]:
        """The file to write to. A file on disk gets its name when the block has ended without an error."""
        target = Path(output).resolve()
        if output == STANDARD_OUTPUT:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        elif target.exists() and not target.is_file():  # a pipe or a device
            with target.open("wb") as file:
                yield file
        else:
            part = target.with_name(f".{target.name}.{os.getpid()}.part")
            try:
                with ended_by_sigterm(), part.open("wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """A SIGTERM ends the process in order, so that it deletes what it has begun."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def moment(text: str) -> datetime:
    """A day or a time in ISO 8601. It is in UTC unless it says otherwise."""
    try:
        given = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a date. Give one such as 2026-05-01.") from error
    return given if given.tzinfo else given.replace(tzinfo=UTC)
