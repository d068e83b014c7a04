"""`manage.py bulk_author_harvest`: parses the options, begins or resumes a harvest, and reports."""

import json as json_module
import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console

from alexandria.common.commands import EXIT_CLOSED, ToolCommand
from alexandria.common.stopping import EndAtOnce
from alexandria.common.text import as_people_read, as_programs_read
from enrichment.authors.names import Names, NamesUnreadable, collect, list_key, read_names
from enrichment.jobs.attended import Ended
from enrichment.selectors.jobs import MAX_PAGES
from harvest.bulk.api import Api
from harvest.bulk.harvests import (
    EXIT_INTERRUPTED,
    EXIT_QUOTA,
    AuthorList,
    CannotGoOn,
    Harvest,
    Report,
    Wishes,
    exit_code,
    what_is_left,
)
from harvest.bulk.local import LocalHarvest
from harvest.bulk.remote import RemoteHarvest
from harvest.bulk.reporting import SHOWN, JsonReport, LineReport, TerminalReport, quota_line, quota_object
from harvest.bulk.server import Unusable, server_address, usable_key

# Ranks by number of stored editions: first and last.
TIERS = {"top-100": (1, 100), "top-1000": (1, 1000), "1000-5000": (1001, 5000), "5000-20000": (5001, 20_000)}

HELP = """\
Stores the books of a list of authors, as a job that this process works on. The consumer bulk-author pays. With
--server, the workers of that server do the job, and the consumer of the API key pays. Each page is recorded, so
--resume does not pay for a page twice.

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
        source = parser.add_mutually_exclusive_group()
        source.add_argument(
            "file", nargs="?", metavar="FILE", help="One name per line, or CSV; - reads standard input."
        )
        source.add_argument("--tier", choices=TIERS, help="Stored authors, ranked by their number of editions.")
        source.add_argument("--author", action="append", metavar="NAME", help="One author; repeat it for more.")
        parser.add_argument(
            "--server", metavar="URL", help="Make the job at this server and follow it, without a database."
        )
        parser.add_argument(
            "--api-key", metavar="KEY", help="With --server: the API key (default: ALEXANDRIA_API_KEY)."
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
        begin.add_argument("--again", action="store_true", help="Ask again for all authors of a list that is finished.")
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
            "--dry-run", action="store_true", help="Show the calls that it needs and when it ends, and do nothing."
        )
        parser.add_argument(
            "--check-quota", action="store_true", help="Show the quota; exit with 2 when no call is free."
        )
        parser.add_argument("--json", action="store_true", help="Print one JSON object per line.")

    def handle(self, *args: Any, **options: Any) -> None:
        self._output_closed = False
        self._when_output_closes: Callable[[], None] = lambda: None
        try:
            self._refuse_nonsense(options)
            with closing(self._harvest(options)) as harvest:
                self._handle(harvest, options)
        except CannotGoOn as error:
            raise CommandError(str(error), returncode=error.code) from error
        except (Unusable, NamesUnreadable) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Interrupted.", returncode=EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            self._output_closed = True
        finally:
            if self._output_closed:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is written when Python ends
        if self._output_closed:
            raise CommandError(OUTPUT_CLOSED, returncode=EXIT_CLOSED)

    def _refuse_nonsense(self, options: dict[str, Any]) -> None:
        has_list = bool(options["file"] or options["tier"] or options["author"])
        if not has_list and not options["resume"] and not options["check_quota"]:
            raise CommandError("No authors given. Give a FILE (- for standard input), --tier or --author.")
        if options["limit"] is not None and options["limit"] < 1:
            raise CommandError("--limit must be at least 1.")
        if options["server"] is None and options["api_key"]:
            raise CommandError("--api-key needs --server.")

    def _handle(self, harvest: Harvest, options: dict[str, Any]) -> None:
        if options["check_quota"]:
            self._check_quota(harvest, json=options["json"])
            return
        names = self._names(options)
        wanted = self._wanted(options, names, harvest)
        wishes = Wishes(**{name: options[name] for name in Wishes.__dataclass_fields__})
        if options["dry_run"]:
            self._dry_run(harvest, wanted, wishes, names or Names(), json=options["json"])
            return
        total = harvest.begin(wanted, wishes)
        notes = names.notes(most=SHOWN) if names else []
        if not total:
            notes.append("Nothing is left to do: this list is finished. These are its figures.")
        self._run(harvest, self._report(json=options["json"], total=total), notes)

    def _harvest(self, options: dict[str, Any]) -> Harvest:
        if options["server"] is None:
            return LocalHarvest()
        address = server_address(options["server"])
        key = options["api_key"] or os.environ.get("ALEXANDRIA_API_KEY", "")
        if not key:
            raise CommandError("--server needs --api-key, or ALEXANDRIA_API_KEY in the environment.")
        return RemoteHarvest(Api(address, usable_key(key)))

    def _names(self, options: dict[str, Any]) -> Names | None:
        if options["author"]:
            return collect(enumerate(options["author"], start=1))
        if not options["file"]:
            return None
        try:
            return read_names(sys.stdin.buffer.read() if options["file"] == "-" else Path(options["file"]).read_bytes())
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}.") from error

    def _wanted(self, options: dict[str, Any], names: Names | None, harvest: Harvest) -> AuthorList | None:
        if tier := options["tier"]:
            first, last = TIERS[tier]
            return AuthorList(
                f"tier {tier}",
                list_key("tier", tier),
                lambda: collect(enumerate(harvest.names_by_editions(first, last), start=first)).names,
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
        """Flushes each line, so that a pipe gets it at once. When its reader is gone, the harvest ends in order."""
        if self._output_closed:
            return
        try:
            self.stdout.write(line)
            self.stdout.flush()
        except BrokenPipeError:
            self._output_closed = True
            self._when_output_closes()

    def _run(self, harvest: Harvest, report: Report, notes: list[str]) -> None:
        self._when_output_closes = harvest.stop
        with report, ended_by_signals(harvest):
            for note in notes:
                report.note(note)
            try:
                ended = harvest.run(report)
            except CannotGoOn as error:
                ended, code = Ended("failed", str(error)), error.code
            else:
                code = exit_code(ended)
        with suppress(CannotGoOn):  # a database or a server that is gone has no summary
            summary = harvest.summary()
            message, code = (ended.message, code) if ended.reason else what_is_left(summary)
            report.summary(summary | {"ended": message})
        if code and not self._output_closed:
            raise CommandError(ended.message or message, returncode=code)

    def _check_quota(self, harvest: Harvest, *, json: bool) -> None:
        quota = harvest.quota()
        self.stdout.write(json_module.dumps(quota_object(quota)) if json else quota_line(quota))
        if not quota.free:
            raise CommandError(f"No call is free for this harvest. {quota.why_none}".rstrip(), returncode=EXIT_QUOTA)

    def _dry_run(
        self, harvest: Harvest, wanted: AuthorList | None, wishes: Wishes, names: Names, *, json: bool
    ) -> None:
        plan, quota = harvest.plan(wanted, wishes), harvest.quota()
        if json:
            ends = {"ends_at_least": plan.ends_at_least, "ends_at_most": plan.ends_at_most}
            figures = asdict(plan) | {name: end and as_programs_read(end) for name, end in ends.items()}
            figures |= {"to_do": len(plan.to_do), "quota": quota_object(quota)}
            figures |= {"notes": names.notes(), "refused": [asdict(each) for each in names.rejected]}
            self.stdout.write(json_module.dumps(figures, ensure_ascii=False))
            return
        self.stdout.write(
            f"Would harvest {len(plan.to_do):,} of {plan.authors:,} authors of {plan.harvest}: ", ending=""
        )
        self.stdout.write(", ".join(plan.to_do[:SHOWN]) + (", …" if len(plan.to_do) > SHOWN else ""))
        least, most = plan.calls_at_least, plan.calls_at_most
        self.stdout.write(f"Calls: {least:,} to {most:,}, plus one for each page that fails or is too large.")
        if plan.ends_at_least is None or plan.ends_at_most is None:
            self.stdout.write("End: never; the limits of this consumer leave it no call.")
        else:
            first, last = as_people_read(plan.ends_at_least), as_people_read(plan.ends_at_most)
            self.stdout.write(f"End: between {first} and {last}, if nobody else spends calls.")
        self.stdout.write(quota_line(quota))
        for note in names.notes():
            self.stdout.write(note)


@contextmanager
def ended_by_signals(harvest: Harvest) -> Iterator[None]:
    """SIGINT and SIGTERM end the harvest after what is under way; a second signal ends it at once."""
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            raise EndAtOnce
        stopping = True
        harvest.stop()
        os.write(2, b"Stopping after the pages under way. A second signal stops at once.\n")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
