"""`manage.py bulk_author_harvest`: parses the options, opens a checkpoint, runs the harvest and reports."""

import json as json_module
import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from rich.console import Console

from alexandria.common.commands import ToolCommand
from alexandria.common.text import counted
from enrichment.authors.names import AuthorList, Names, NamesUnreadable, collect, list_key, read_names
from enrichment.services.bibliographies import MAX_PAGES
from harvest.bulk.checkpoint_file import FileStore, default_path
from harvest.bulk.exceptions import (
    AlreadyBegun,
    AnotherCopy,
    CannotGoOn,
    Interrupted,
    NotFetched,
    NothingToResume,
    QuotaGone,
    TryLater,
)
from harvest.bulk.local import DatabaseStore, LocalFetcher
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

# Ranks by number of stored editions: first and last.
TIERS = {"top-100": (1, 100), "top-1000": (1, 1000), "1000-5000": (1001, 5000), "5000-20000": (5001, 20_000)}

HELP = """\
Stores the books of a list of authors, page by page. The consumer bulk-author pays; with --server, the consumer of the
API key. Each page is recorded before the next one is fetched, so --resume does not pay for a page twice.

exit codes:
  0    everything is done
  1    wrong usage, or the harvest cannot start or continue; the message says why
  2    the quota is used up; --resume continues when there are calls again
  3    done, but some authors failed; --resume tries them again
  4    another process works on the same list
  130  interrupted; --resume continues
  141  the reader of the output is gone; --resume continues
"""

OUTPUT_CLOSED = "The reader of the output is gone."


class Command(ToolCommand):
    help = HELP
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        source = parser.add_argument_group("authors").add_mutually_exclusive_group()
        source.add_argument(
            "file", nargs="?", metavar="FILE", help="One name per line, or CSV; - reads standard input."
        )
        source.add_argument("--tier", choices=TIERS, help="Stored authors, ranked by their number of editions.")
        source.add_argument("--author", action="append", metavar="NAME", help="One author; repeat it for more.")
        parser.add_argument("--server", metavar="URL", help="Work through this server and use no database.")
        parser.add_argument(
            "--api-key", metavar="KEY", help="With --server: the API key (default: ALEXANDRIA_API_KEY)."
        )
        parser.add_argument(
            "--checkpoint",
            type=Path,
            metavar="PATH",
            help="With --server: the file of the checkpoint (default: one per list).",
        )
        begin = parser.add_mutually_exclusive_group()
        begin.add_argument(
            "--resume", action="store_true", help="Continue with this list; without a list, continue what stopped last."
        )
        begin.add_argument(
            "--restart",
            action="store_true",
            help="Start again from the beginning, although a harvest of this list stopped.",
        )
        parser.add_argument(
            "--wait", action="store_true", help="When the quota is used up, wait for new calls and continue."
        )
        parser.add_argument(
            "--max-pages",
            type=int,
            choices=range(1, MAX_PAGES + 1),
            metavar="N",
            help=f"Maximum number of pages of 1,000 books per author, 1 to {MAX_PAGES} (default: {MAX_PAGES}).",
        )
        parser.add_argument("--limit", type=int, metavar="N", help="Maximum number of authors in this run.")
        parser.add_argument(
            "--dry-run", action="store_true", help="Show the calls and days that it needs, and do nothing."
        )
        parser.add_argument(
            "--check-quota", action="store_true", help="Show the quota; exit with 2 when no call is free."
        )
        parser.add_argument("--json", action="store_true", help="Print one JSON object per line.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._refuse_nonsense(options)
            with closing(self._fetcher(options)) as fetcher:
                self._handle(fetcher, options)
        except AnotherCopy as error:
            raise CommandError(str(error), returncode=4) from error
        except AlreadyBegun as error:
            raise CommandError(f"{error} --resume continues it, --restart starts again from the beginning.") from error
        except (Unusable, NamesUnreadable, NothingToResume, CannotGoOn, NotFetched) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Interrupted.", returncode=130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is written when Python ends
            raise CommandError(OUTPUT_CLOSED, returncode=141) from None

    def _refuse_nonsense(self, options: dict[str, Any]) -> None:
        has_list = bool(options["file"] or options["tier"] or options["author"])
        if not has_list and not options["resume"] and not options["check_quota"]:
            raise CommandError("No authors given. Give a FILE (- for standard input), --tier or --author.")
        if options["limit"] is not None and options["limit"] < 1:
            raise CommandError("--limit must be at least 1.")
        if options["server"] is None and (options["checkpoint"] or options["api_key"]):
            raise CommandError("--checkpoint and --api-key need --server.")
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
            self._dry_run(fetcher, store.look(wanted, resume=options["resume"]), names or Names(), options)
            return
        if not options["server"] and not settings.ISBNDB_API_KEY:
            raise CommandError(
                "ISBNDB_API_KEY is not set, so nothing was sent. Set it. (While `make run` runs: . .data/run.env)"
            )
        checkpoint = store.open(
            wanted, max_pages=options["max_pages"], resume=options["resume"], restart=options["restart"]
        )
        fetcher.source = checkpoint.source
        run = Run(fetcher, checkpoint, limit=options["limit"], wait=options["wait"])
        self._run(
            run, self._report(json=options["json"], total=len(run.entries)), names.notes(most=SHOWN) if names else []
        )

    def _fetcher(self, options: dict[str, Any]) -> Fetcher:
        if not options["server"]:
            return LocalFetcher()
        key = options["api_key"] or os.environ.get("ALEXANDRIA_API_KEY", "")
        if not key:
            raise CommandError("--server needs --api-key, or ALEXANDRIA_API_KEY in the environment.")
        return RemoteFetcher(options["server"], usable_key(key))

    def _store(self, options: dict[str, Any], wanted: AuthorList | None) -> Store:
        if not options["server"]:
            return DatabaseStore()
        if options["checkpoint"]:
            return FileStore(options["checkpoint"])
        if wanted is None:
            raise CommandError("--resume with --server needs the list or the --checkpoint.")
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
        """Flushes each line, so that a pipe gets it at once."""
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
                run.checkpoint.close(reason=OUTPUT_CLOSED)
            raise
        except AnotherCopy as error:
            ended, code = str(error), 4
        except (CannotGoOn, NotFetched) as error:
            ended, code = str(error), 1
        else:
            ended, code = what_is_left(run.checkpoint.entries)
        with suppress(TryLater):  # the lease ends with this process
            run.checkpoint.close(reason=ended)
        report.summary(summary_of(run.checkpoint, ended=ended))
        if code:
            raise CommandError(ended, returncode=code)

    def _check_quota(self, fetcher: Fetcher, *, json: bool) -> None:
        quota = fetcher.quota()
        self.stdout.write(json_module.dumps(quota_object(quota)) if json else quota_line(quota))
        if not quota.free:
            raise CommandError(f"No call is free for this harvest. {quota.why_none}".rstrip(), returncode=2)

    def _dry_run(self, fetcher: Fetcher, seen: Seen, names: Names, options: dict[str, Any]) -> None:
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
            figures |= {"notes": names.notes(), "refused": [asdict(each) for each in names.rejected]}
            self.stdout.write(json_module.dumps(figures | {"quota": quota_object(quota)}, ensure_ascii=False))
            return
        self.stdout.write(f"Would harvest {len(pending):,} of {len(entries):,} authors of {label}: ", ending="")
        self.stdout.write(", ".join(entry.name for entry in pending[:SHOWN]) + (", …" if len(pending) > SHOWN else ""))
        self.stdout.write(f"Calls: {least:,} to {most:,}, plus one for each page that fails or is too large.")
        if None in days:
            self.stdout.write("Days: never; the limits of this consumer leave it no call.")
        else:
            self.stdout.write(f"Days: {days[0]} to {days[1]}, if nobody else spends calls.")
        self.stdout.write(quota_line(quota))
        for note in names.notes():
            self.stdout.write(note)


def what_is_left(entries: list[Entry]) -> tuple[str, int]:
    """What a completed run has not done, "" if it has done everything, and the exit code."""
    states = [entry.state for entry in entries]
    if failed := states.count(FAILED):
        return f"{counted(failed, 'author')} failed; --resume tries again.", 3
    if left := states.count(PENDING):
        return f"--limit: {counted(left, 'author')} left; --resume continues.", 0
    return "", 0


@contextmanager
def ended_by_signals(run: Run) -> Iterator[None]:
    """SIGINT and SIGTERM end the run after the current page; a second signal ends it at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if run.stopping:
            raise KeyboardInterrupt
        run.stop()
        os.write(2, b"Stopping after the current page. A second signal stops at once.\n")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
