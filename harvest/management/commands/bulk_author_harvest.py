"""`manage.py bulk_author_harvest`: parse, open a checkpoint, run, tell."""

import json as json_module
import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from rich.console import Console

from alexandria.common.commands import ToolCommand
from enrichment.services.bibliographies import MAX_PAGES
from harvest.bulk.checkpoint_file import FileStore, default_path
from harvest.bulk.exceptions import (
    AlreadyBegun,
    AnotherCopy,
    CannotGoOn,
    Interrupted,
    NamesUnreadable,
    NotFetched,
    NothingToResume,
    QuotaGone,
    TryLater,
)
from harvest.bulk.local import DatabaseStore, LocalFetcher
from harvest.bulk.names import AuthorList, Names, collect, list_key, read_names
from harvest.bulk.remote import RemoteFetcher
from harvest.bulk.reporting import (
    SHOWN,
    JsonReport,
    LineReport,
    Report,
    TerminalReport,
    quota_line,
    quota_object,
    summary_of,
)
from harvest.bulk.run import FAILED, PENDING, Entry, Fetcher, Run, Seen, Store, to_do
from harvest.bulk.server import Unusable, server_address, usable_key

# By number of stored editions: the first rank and the last.
TIERS = {"top-100": (1, 100), "top-1000": (1, 1000), "1000-5000": (1001, 5000), "5000-20000": (5001, 20_000)}

HELP = """\
Stores the books of a list of authors, page by page, as the consumer bulk-author (or, with --server, as the consumer of
the API key). What came of each page is on record before the next is asked for, so that --resume pays for no page twice.

exit codes:
  0    all that was asked for is done
  1    wrong usage, or it could not begin or go on: the message says why
  2    the quota is gone: --resume goes on when there is some again
  3    done, but some authors failed: --resume tries those again
  4    another copy works on the same list
  130  interrupted; --resume goes on
  141  nobody reads the output any more; --resume goes on
"""

NOBODY_READS = "Nobody reads the output any more."


class Command(ToolCommand):
    help = HELP
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        source = parser.add_argument_group("authors").add_mutually_exclusive_group()
        source.add_argument("file", nargs="?", metavar="FILE", help="One name a line, or CSV; - reads standard input.")
        source.add_argument("--tier", choices=TIERS, help="Stored authors, by the number of their editions.")
        source.add_argument("--author", action="append", metavar="NAME", help="One author; may be given several times.")
        parser.add_argument("--server", metavar="URL", help="Work through that server; no database is touched.")
        parser.add_argument("--api-key", metavar="KEY", help="For --server. Default: ALEXANDRIA_API_KEY.")
        parser.add_argument(
            "--checkpoint",
            type=Path,
            metavar="PATH",
            help="With --server: its checkpoint (default: one a list).",
        )
        begin = parser.add_mutually_exclusive_group()
        begin.add_argument(
            "--resume", action="store_true", help="Go on with this list, or without one with what stopped last."
        )
        begin.add_argument("--restart", action="store_true", help="Begin anew although this list stopped on its way.")
        parser.add_argument("--wait", action="store_true", help="When the quota is gone, wait for more and go on.")
        parser.add_argument(
            "--max-pages",
            type=int,
            choices=range(1, MAX_PAGES + 1),
            metavar="N",
            help=f"The most pages of 1,000 books an author, 1 to {MAX_PAGES} (default: {MAX_PAGES}).",
        )
        parser.add_argument("--limit", type=int, metavar="N", help="The most authors in this run.")
        parser.add_argument("--dry-run", action="store_true", help="Say what it would take, and do nothing.")
        parser.add_argument("--check-quota", action="store_true", help="Print the quota; 2 when none is left.")
        parser.add_argument("--json", action="store_true", help="One JSON object a line.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._refuse_nonsense(options)
            with closing(self._fetcher(options)) as fetcher:
                self._handle(fetcher, options)
        except AnotherCopy as error:
            raise CommandError(str(error), returncode=4) from error
        except AlreadyBegun as error:
            raise CommandError(f"{error} --resume goes on with it, --restart begins anew.") from error
        except (Unusable, NamesUnreadable, NothingToResume, CannotGoOn, NotFetched) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Interrupted.", returncode=130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is written when Python ends
            raise CommandError(NOBODY_READS, returncode=141) from None

    def _refuse_nonsense(self, options: dict[str, Any]) -> None:
        has_list = bool(options["file"] or options["tier"] or options["author"])
        if not has_list and not options["resume"] and not options["check_quota"]:
            raise CommandError("Which authors? Name a FILE (- for standard input), --tier or --author.")
        if options["limit"] is not None and options["limit"] < 1:
            raise CommandError("--limit: at least 1.")
        if options["server"] is None and (options["checkpoint"] or options["api_key"]):
            raise CommandError("--checkpoint and --api-key go with --server.")
        if options["server"] is not None:
            options["server"] = server_address(options["server"])

    def _handle(self, fetcher: Fetcher, options: dict[str, Any]) -> None:
        if options["check_quota"]:
            self._check_quota(fetcher, json=options["json"])
            return
        names = self._names(options)
        wanted = self._wanted(options, names, fetcher)
        store = self._store(options, wanted)
        if options["dry_run"]:
            self._dry_run(fetcher, store.look(wanted, resume=options["resume"]), options)
            return
        if not options["server"] and not settings.ISBNDB_API_KEY:
            raise CommandError("ISBNDB_API_KEY is not set: nothing was sent. (Beside `make run`: . .data/run.env)")
        checkpoint = store.open(
            wanted, max_pages=options["max_pages"], resume=options["resume"], restart=options["restart"]
        )
        fetcher.source = checkpoint.source
        run = Run(fetcher, checkpoint, limit=options["limit"], wait=options["wait"])
        self._run(run, self._report(json=options["json"], total=len(run.entries)), notes_on(names))

    def _fetcher(self, options: dict[str, Any]) -> Fetcher:
        if not options["server"]:
            return LocalFetcher()
        key = options["api_key"] or os.environ.get("ALEXANDRIA_API_KEY", "")
        if not key:
            raise CommandError("--server wants an --api-key, or ALEXANDRIA_API_KEY in the environment.")
        return RemoteFetcher(options["server"], usable_key(key))

    def _store(self, options: dict[str, Any], wanted: AuthorList | None) -> Store:
        if not options["server"]:
            return DatabaseStore()
        if options["checkpoint"]:
            return FileStore(options["checkpoint"])
        if wanted is None:
            raise CommandError("--resume with --server: which list, or which --checkpoint?")
        return FileStore(default_path(options["server"], wanted))

    def _names(self, options: dict[str, Any]) -> Names | None:
        if options["author"]:
            return collect(enumerate(options["author"], start=1))
        if not options["file"]:
            return None
        try:
            return read_names(sys.stdin.buffer.read() if options["file"] == "-" else Path(options["file"]).read_bytes())
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}.") from error

    def _wanted(self, options: dict[str, Any], names: Names | None, fetcher: Fetcher) -> AuthorList | None:
        if tier := options["tier"]:
            first, last = TIERS[tier]
            return AuthorList(
                f"tier {tier}",
                list_key("tier", tier),
                lambda: collect(enumerate(fetcher.names_by_editions(first, last), start=first)).names,
            )
        if names is None:
            return None
        label = Path(options["file"] or "").name or "authors given by name"
        return AuthorList("standard input" if label == "-" else label, names.key, lambda: names.names)

    def _report(self, *, json: bool, total: int) -> Report:
        if json:
            return JsonReport(self._write)
        if self.stdout.isatty():
            return TerminalReport(Console(), total=total)
        return LineReport(self._write, total=total)

    def _write(self, line: str) -> None:
        """Each line is there to read at once, also through a pipe."""
        self.stdout.write(line)
        self.stdout.flush()

    def _run(self, run: Run, report: Report, notes: list[str]) -> None:
        try:
            with report, ended_by_signals(run):
                for note in notes:
                    report.note(note)
                run.harvest(report)
        except QuotaGone as gone:
            ended, code = str(gone), 2
        except (Interrupted, KeyboardInterrupt):
            ended, code = "Interrupted.", 130
        except BrokenPipeError:
            with suppress(TryLater):
                run.checkpoint.close(reason=NOBODY_READS)
            raise
        except AnotherCopy as error:
            ended, code = str(error), 4
        except (CannotGoOn, NotFetched) as error:
            ended, code = str(error), 1
        else:
            ended, code = what_is_left(run.checkpoint.entries)
        with suppress(TryLater):  # our lease ends with this process
            run.checkpoint.close(reason=ended)
        report.summary(summary_of(run.checkpoint, ended=ended))
        if code:
            raise CommandError(ended, returncode=code)

    def _check_quota(self, fetcher: Fetcher, *, json: bool) -> None:
        quota = fetcher.quota()
        self.stdout.write(json_module.dumps(quota_object(quota)) if json else quota_line(quota))
        if not quota.most:
            raise CommandError(f"No call is free for this harvest. {quota.why_none}".rstrip(), returncode=2)

    def _dry_run(self, fetcher: Fetcher, seen: Seen, options: dict[str, Any]) -> None:
        label, entries, stored_pages = seen
        max_pages = options["max_pages"] or stored_pages
        for entry in entries:
            entry.reopen(max_pages)
        pending = to_do(entries)[: options["limit"]]
        quota = fetcher.quota()
        least = len(pending) - fetcher.remembered([entry.name for entry in pending])
        most = sum(max_pages - entry.next_page + 1 for entry in pending)
        days = fetcher.days(least), fetcher.days(most)
        if options["json"]:
            figures = {"harvest": label, "authors": len(entries), "to_do": len(pending), "calls_at_least": least}
            figures |= {"calls_at_most": most, "days_at_least": days[0], "days_at_most": days[1]}
            self.stdout.write(json_module.dumps(figures | {"quota": quota_object(quota)}, ensure_ascii=False))
            return
        self.stdout.write(f"Would harvest {len(pending):,} of {len(entries):,} authors of {label}: ", ending="")
        self.stdout.write(", ".join(entry.name for entry in pending[:SHOWN]) + (", …" if len(pending) > SHOWN else ""))
        self.stdout.write(f"Calls: {least:,} to {most:,}, and one more for each that fails or is too large for ISBNdb.")
        if None in days:
            self.stdout.write("Days: it would never end; the limits of this consumer leave it no call.")
        else:
            self.stdout.write(f"Days: {days[0]} to {days[1]}, if nobody else spends any call.")
        self.stdout.write(quota_line(quota))


def what_is_left(entries: list[Entry]) -> tuple[str, int]:
    """Why a run that came to its end has not done everything, "" when it has, and its exit code."""
    states = [entry.state for entry in entries]
    if failed := states.count(FAILED):
        return f"{failed:,} authors failed; --resume tries them again.", 3
    if left := states.count(PENDING):
        return f"--limit: {left:,} authors are left; --resume goes on.", 0
    return "", 0


def notes_on(names: Names | None) -> list[str]:
    """What people should know of the list that was read."""
    if names is None:
        return []
    notes = [f"The list is not UTF-8; it was read as {names.encoding}."] if names.encoding else []
    if names.duplicates:
        notes.append(f"{names.duplicates:,} names are there more than once and count once.")
    notes += [f"Line {bad.line} is no name ({bad.reason}): {bad.text!r}" for bad in names.rejected[:SHOWN]]
    if more := len(names.rejected[SHOWN:]):
        notes.append(f"{more:,} more lines are no names.")
    return notes


@contextmanager
def ended_by_signals(run: Run) -> Iterator[None]:
    """SIGINT and SIGTERM end the run after the page under way; a second one at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if run.stopping:
            raise KeyboardInterrupt
        run.stop()
        os.write(2, b"Stopping after the page under way; once more stops at once.\n")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
