"""Reports the progress of a bulk harvest to a terminal, to a log or to programs."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from alexandria.common.text import as_people_read, as_programs_read, counted
from harvest.bulk.harvests import BOOKS, CUT, DONE, FAILED, PENDING, UNKNOWN, Figures, Quota, Report

SHOWN = 10
"""Maximum number of names in a message."""


def quota_line(quota: Quota) -> str:
    line = (
        f"Quota: {quota.used:,} of {quota.safety_limit:,} calls used, {quota.reserved:,} reserved, "
        f"{quota.free:,} free for this harvest; resets at {as_people_read(quota.reset_at)}."
    )
    return f"{line} {quota.why_none}".rstrip()


def quota_object(quota: Quota) -> dict[str, Any]:
    return asdict(quota) | {"reset_at": as_programs_read(quota.reset_at)}


class JsonReport(Report):
    """Prints one JSON object per line; `event` names its kind."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        self.write = write

    def quota(self, quota: Quota) -> None:
        self._event("quota", quota_object(quota))

    def author(self, author: Figures, detail: str) -> None:
        self._event("author", author | ({"detail": detail} if detail else {}))

    def waiting(self, limit: str, message: str, until: datetime | None) -> None:
        self._event("waiting", {"limit": limit, "until": until and as_programs_read(until)})

    def trying_again(self, message: str, seconds: float) -> None:
        self._event("trying_again", {"error": message, "seconds": seconds})

    def note(self, text: str) -> None:
        self._event("note", {"text": text})

    def summary(self, figures: Figures) -> None:
        self._event("summary", figures)

    def _event(self, name: str, content: dict[str, Any]) -> None:
        self.write(json.dumps({"event": name} | content, ensure_ascii=False))


class LineReport(Report):
    """Prints a line for each event. `total`: the authors of this run."""

    def __init__(self, write: Callable[[str], Any], *, total: int) -> None:
        self.write = write
        self.total = total
        self.done = 0
        self.started = time.monotonic()

    @property
    def per_minute(self) -> float:
        return 60 * self.done / max(0.001, time.monotonic() - self.started)

    def quota(self, quota: Quota) -> None:
        self.write(quota_line(quota))
        if self.done:
            rate = self.per_minute
            minutes = (self.total - self.done) / rate
            self.write(f"{self.done:,} of {self.total:,} authors, {rate:.0f} a minute, {minutes:.0f} min to go.")

    def author(self, author: Figures, detail: str) -> None:
        self.done += 1
        self.write(f"{self.done:>{len(str(self.total))}}/{self.total} {author_line(author, detail)}")

    def waiting(self, limit: str, message: str, until: datetime | None) -> None:
        waiting = f"Waiting until {as_people_read(until)}." if until else "Waiting."
        self.write(f"{message} {waiting} Ctrl-C ends the harvest; --resume continues it.")

    def trying_again(self, message: str, seconds: float) -> None:
        self.write(f"{message} Trying again in {seconds:.0f} s.")

    def note(self, text: str) -> None:
        self.write(text)

    def summary(self, figures: Figures) -> None:
        for row in summary_rows(figures):
            self.write(": ".join(row))


class TerminalReport(LineReport):
    """Prints the same lines above a bar with the rate, the remaining time and the quota."""

    def __init__(self, console: Console, *, total: int) -> None:
        super().__init__(lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True), total=total)
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[free]}"),
            console=console,
        )
        self.task = self.progress.add_task("Authors", total=total, rate="", free="")

    def quota(self, quota: Quota) -> None:
        self.write(quota_line(quota))
        self.calls_left(quota.remaining)

    def calls_left(self, calls: int) -> None:
        self.progress.update(self.task, free=f"{calls:,} calls left")

    def author(self, author: Figures, detail: str) -> None:
        super().author(author, detail)
        self.progress.update(self.task, advance=1, rate=f"{self.per_minute:.0f}/min")

    def summary(self, figures: Figures) -> None:
        table = Table(show_header=False)
        for row in summary_rows(figures):
            table.add_row(*row)
        self.console.print(table)

    def __enter__(self) -> "TerminalReport":
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()


def author_line(author: Figures, detail: str) -> str:
    """What became of an author and of every book: `Andy Weir: 68 books (60 new, 8 already fresh), 1 call`."""
    calls = counted(author["calls"], "call")
    parts = what_became(author)
    what = f"{counted(author['books'], 'book')}{f' ({parts})' if parts else ''}, {calls}"
    match author["state"]:
        case "unknown":
            what = f"unknown to ISBNdb, {calls}"
        case "cut":
            what += f", cut: {author['reason']}"
        case "failed":
            what += f", failed: {', '.join(filter(None, [author['reason'], detail]))}"
    return f"{author['name']}: {what}"


def what_became(figures: Figures) -> str:
    """What became of the books, without figures that are zero: `60 new, 8 already fresh`."""
    words = {"already_fresh": "already fresh", "books_failed": "failed"}
    return ", ".join(f"{figures[name]:,} {words.get(name, name)}" for name in BOOKS if figures[name])


def summary_rows(figures: Figures) -> list[tuple[str, str]]:
    """The summary in words, without figures that are zero."""
    rows = [("harvest", figures["harvest"]), ("authors", f"{figures['authors']:,}")]
    words = {DONE: "done", UNKNOWN: "unknown to ISBNdb", CUT: "cut", FAILED: "failed", PENDING: "pending"}
    rows += [(f"  {word}", f"{figures[state]:,}") for state, word in words.items() if figures[state]]
    rows += [(f"  failed, {reason}", f"{count:,}") for reason, count in figures["failures"].items()]
    if failed := figures["failed_authors"]:
        rows.append(("  failed authors", "; ".join(failed[:SHOWN]) + ("; …" if len(failed) > SHOWN else "")))
    parts = what_became(figures)
    rows += [("books", f"{figures['books']:,} found{f': {parts}' if parts else ''}")]
    rows += [("calls", f"{figures['calls']:,}")]
    if figures["ended"]:
        rows.append(("ended", figures["ended"]))
    return rows
