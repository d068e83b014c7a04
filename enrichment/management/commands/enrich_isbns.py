"""`manage.py enrich_isbns`: reads a file of ISBNs, and enriches or queues them."""

import json
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from alexandria.common.commands import ToolCommand
from alexandria.common.database import OUT_OF_REACH
from alexandria.common.exports import as_csv_for_people
from alexandria.common.text import as_people_read, as_programs_read, counted
from enrichment.isbn.files import FileUnreadable, FileValues, read_file
from enrichment.isbn.reading import GivenIsbns, read
from enrichment.models.jobs import OPERATOR
from enrichment.selectors.plans import plan_isbns
from enrichment.services.long_lists import ListResult, ended_for_quota, enrich_list, queue_list, why_stopped
from enrichment.services.outcomes import Outcome
from enrichment.services.stop_reasons import public_message
from quota.exceptions import QuotaUnavailable
from quota.models import Consumer
from quota.selectors.allowances import get_allowance
from quota.selectors.forecast import forecast
from quota.spending import in_background

SOURCE = "enrich_isbns"
STANDARD_INPUT = "-"
SHOWN = 10
"""Number of refused values that are shown; --output has all of them."""

NEVER = "never; the limits of this consumer leave it no call"

EXIT_QUOTA, EXIT_FAILED, EXIT_INTERRUPTED = 2, 3, 130


class Command(ToolCommand):
    help = """\
Reads the ISBNs of a file as the admin and the API do: text, CSV with any delimiter, TSV, an Excel workbook, and exports
of Goodreads, StoryGraph, LibraryThing, Calibre, BookWyrm and Libib. Then it stores what ISBNdb knows about them.

exit codes:
  0    every ISBN is enriched, fresh, or unknown to ISBNdb; with --queue: queued or known
  1    wrong usage, an unreadable file, or ISBNdb or the database failed
  2    the quota is used up, or the queue is full; the same command does the rest later: fresh books cost nothing
  3    done, but some ISBNs failed
  130  interrupted; the same command does the rest"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="the file; - reads standard input")
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--queue", action="store_true", help="queue the ISBNs for a later batch; spends no call now")
        how.add_argument(
            "--refresh", action="store_true", help="ask ISBNdb also for fresh books, and for ISBNs it did not know"
        )
        parser.add_argument(
            "--consumer", metavar="SLUG", default=OPERATOR, help=f"the consumer that pays (default: {OPERATOR})"
        )
        what = parser.add_mutually_exclusive_group()
        what.add_argument(
            "--dry-run", action="store_true", help="show what is in the file, what it would cost and when it would end"
        )
        what.add_argument(
            "--output", metavar="FILE", help="write a CSV file with what became of each value, and suggestions"
        )
        parser.add_argument("--json", action="store_true", help="print the counts as one JSON object")

    def handle(self, *args: Any, file: str, consumer: str, **options: Any) -> None:
        found = self._read(file)
        given = read(found.values, is_spreadsheet=True)
        try:
            payer = self._payer(consumer)
            if options["dry_run"]:
                self._plan(found, given, payer, options)
                return
            result, interrupted = self._run(given, payer, options)
        except (QuotaUnavailable, *OUT_OF_REACH) as error:
            raise CommandError(public_message(error)) from error
        if options["output"]:
            self._write_items(options["output"], result.items)
        self._show(found, given, {**result.counts, "api_calls": result.api_calls}, options)
        if interrupted:
            raise CommandError("Interrupted.", returncode=EXIT_INTERRUPTED)
        if result.stopped:
            raise CommandError(why_stopped(result), returncode=EXIT_QUOTA if ended_for_quota(result) else 1)
        if failed := result.counts.get("failed"):
            raise CommandError(f"{counted(failed, 'ISBN')} failed.", returncode=EXIT_FAILED)

    def _read(self, file: str) -> FileValues:
        try:
            data = sys.stdin.buffer.read() if file == STANDARD_INPUT else Path(file).read_bytes()
            found = read_file(data)
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}.") from error
        except FileUnreadable as error:
            raise CommandError(f"{file}: {error}") from error
        if not found.values:
            raise CommandError(" ".join([f"{file}: there is no ISBN in it.", *found.notes]))
        return found

    def _payer(self, slug: str) -> Consumer:
        if slug == OPERATOR:
            return Consumer.objects.get_or_create(slug=slug)[0]
        payer = Consumer.objects.filter(slug=slug).first()
        if payer is None:
            raise CommandError(f"There is no consumer {slug!r}.")
        return payer

    def _plan(self, found: FileValues, given: GivenIsbns, payer: Consumer, options: dict[str, Any]) -> None:
        plan = plan_isbns(given, refresh=options["refresh"])
        counts = {
            "requested": given.requested,
            "valid": len(given.valid),
            "duplicates": given.duplicates,
            "invalid": len(given.invalid),
            "already_fresh": plan.fresh,
            "not_found": plan.missed,
            "to_request": plan.wanted,
            "calls": plan.calls,
            "free_calls": get_allowance(payer).free,
        }
        ends_at = forecast(plan.calls, consumer=payer.slug, requests=plan.requests).finish_at
        self._show(found, given, counts, options, ends_at=as_programs_read(ends_at) if ends_at else None)
        if not options["json"]:
            end = f"{as_people_read(ends_at)}, if nobody else spends calls" if ends_at else NEVER
            self.stdout.write(f"End: {end}.")

    def _run(self, given: GivenIsbns, payer: Consumer, options: dict[str, Any]) -> tuple[ListResult, bool]:
        """What became of the list, and whether somebody interrupted it."""
        result = ListResult(given)
        try:
            with in_background(), progress(len(given.valid), hidden=options["json"]) as advance:
                if options["queue"]:
                    queue_list(result, consumer=payer.slug, source=SOURCE, advance=advance)
                else:
                    enrich_list(result, consumer=payer.slug, source=SOURCE, refresh=options["refresh"], advance=advance)
        except KeyboardInterrupt:
            return result, True
        return result, False

    def _show(
        self, found: FileValues, given: GivenIsbns, counts: dict[str, int], options: dict[str, Any], **for_programs: Any
    ) -> None:
        """`for_programs`: what only JSON shows."""
        reasons = Counter(str(entry.reason) for entry in given.invalid)
        if options["json"]:
            figures = {**counts, **for_programs, "program": found.program, "notes": found.notes, "reasons": reasons}
            self.stdout.write(json.dumps(figures, ensure_ascii=False))
            return
        for note in found.notes:
            self.stdout.write(note)
        for name, count in counts.items():
            self.stdout.write(f"{name.replace('_', ' ')}: {count:,}")
        for reason, count in reasons.most_common():
            self.stdout.write(f"  {reason}: {count:,}")
        for entry in given.invalid[:SHOWN]:
            meant = f" Is it {entry.suggestion}?" if entry.suggestion else ""
            self.stdout.write(f"  {entry.input[:80]!r} is invalid: {entry.reason}.{meant}")
        if (more := len(given.invalid) - SHOWN) > 0:
            self.stdout.write(f"  {counted(more, 'more invalid value')}; --output has all of them.")

    def _write_items(self, output: str, items: list[Outcome]) -> None:
        try:
            with Path(output).open("w", encoding="utf-8", newline="") as file:
                file.writelines(as_csv_for_people(Outcome._fields, items))
        except OSError as error:
            raise CommandError(f"{output}: {error.strerror}.") from error


@contextmanager
def progress(total: int, *, hidden: bool) -> Iterator[Callable[[int], None]]:
    """A bar where a person can see it. Gives a function that takes the number of ISBNs that are done since."""
    console = Console(stderr=True)
    columns = (TextColumn("ISBNs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=hidden or not console.is_terminal) as bar:
        task = bar.add_task("ISBNs", total=total)
        yield lambda done: bar.update(task, advance=done)
