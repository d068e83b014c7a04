"""What the command needs of a harvest, wherever its job is, and what it shows of it."""

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from alexandria.common.text import counted
from enrichment.jobs.attended import Ended
from quota.limits import LIMITS

EXIT_CANNOT, EXIT_QUOTA, EXIT_FAILED, EXIT_ANOTHER, EXIT_INTERRUPTED = 1, 2, 3, 4, 130

Figures = dict[str, Any]

BOOKS = ("new", "changed", "unchanged", "already_fresh", "books_failed")
"""What became of the books of an author. The sum is `books`."""

DONE, UNKNOWN, CUT, FAILED, PENDING = "done", "unknown", "cut", "failed", "pending"
STATES = (DONE, UNKNOWN, CUT, FAILED, PENDING)
"""The states of an author."""

INTERRUPTED, LOST = "interrupted", "lost"
QUOTA_EVERY = 100
"""The quota is shown at the start, and whenever so many authors are over."""


@dataclass(frozen=True)
class AuthorList:
    """A list of authors: its source, a key that identifies it, and a function that returns its names."""

    label: str
    key: str
    names: Callable[[], list[str]]


@dataclass(frozen=True)
class Wishes:
    """How to begin: the options of the command. `max_pages`: None is unchanged, or all pages."""

    max_pages: int | None = None
    limit: int | None = None
    resume: bool = False
    restart: bool = False
    again: bool = False
    wait: bool = False


@dataclass(frozen=True)
class Quota:
    """Today's quota, in calls.

    `free`: the calls that this harvest can take now. `why_none`: why no call is free, if known.
    """

    used: int
    reserved: int
    safety_limit: int
    remaining: int
    free: int
    reset_at: datetime
    why_none: str = ""


@dataclass(frozen=True)
class Plan:
    """What a harvest would work on. `to_do`: the names of its authors. An end is None when it never comes."""

    harvest: str
    authors: int
    to_do: list[str]
    calls_at_least: int
    calls_at_most: int
    ends_at_least: datetime | None
    ends_at_most: datetime | None
    """The end with the least and the most calls, if nobody else spends any."""


class CannotGoOn(Exception):
    """The harvest cannot start or continue. `code`: the exit code of the command."""

    def __init__(self, message: str, *, code: int = EXIT_CANNOT) -> None:
        self.code = code
        super().__init__(message)


class Report(AbstractContextManager["Report"]):
    """Reports the progress of a run, which is the block of this context, to people or programs."""

    @abstractmethod
    def quota(self, quota: Quota) -> None: ...

    def calls_left(self, calls: int) -> None:
        """A page has come: so many calls are left."""

    @abstractmethod
    def author(self, author: Figures, detail: str) -> None:
        """An author is over (see `author_of`). `detail`: the sentence of a failure."""

    @abstractmethod
    def waiting(self, limit: str, message: str, until: datetime | None) -> None: ...

    @abstractmethod
    def trying_again(self, message: str, seconds: float) -> None: ...

    @abstractmethod
    def note(self, text: str) -> None: ...

    @abstractmethod
    def summary(self, figures: Figures) -> None: ...

    def __exit__(self, *error: object) -> None:
        """Most reports have nothing to clean up."""


class Harvest(Protocol):
    """A harvest in our database or at a server. Every method can raise CannotGoOn."""

    def quota(self) -> Quota: ...

    def names_by_editions(self, first: int, last: int) -> list[str]:
        """The stored authors from rank `first` (from 1) to `last` by number of editions."""

    def plan(self, wanted: AuthorList | None, wishes: Wishes) -> Plan:
        """What `begin` would work on; starts nothing."""

    def begin(self, wanted: AuthorList | None, wishes: Wishes) -> int:
        """Makes or takes over the job of the list, or, without a list, of what stopped last.

        Returns the number of authors that this run works on.
        """

    def run(self, report: Report) -> Ended:
        """Works until the end. Afterwards the job has ended or is paused."""

    def stop(self) -> None:
        """From a signal handler: what is under way comes in, then `run` ends."""

    def summary(self) -> Figures:
        """The results of the list so far, over all runs (see `summary_of`)."""

    def close(self) -> None:
        """Closes all connections."""


def exit_code(ended: Ended) -> int:
    if not ended.reason:
        return 0
    codes = dict.fromkeys(LIMITS, EXIT_QUOTA) | {INTERRUPTED: EXIT_INTERRUPTED, LOST: EXIT_ANOTHER}
    return codes.get(ended.reason, EXIT_CANNOT)


def already_begun(label: str, job: object) -> CannotGoOn:
    """The list has a job that has stopped: the user must choose between resume and restart."""
    return CannotGoOn(
        f"The harvest of {label} was started before (job {job}) and has stopped. "
        "--resume continues it, --restart starts again from the beginning."
    )


def already_finished(message: str) -> CannotGoOn:
    """The list is done, and asking again costs as much again."""
    return CannotGoOn(f"{message} --again does it.")


def list_to_begin(wanted: AuthorList | None, *, where: str) -> AuthorList:
    """The list to begin with. Without one, nothing that has stopped was found there: raises CannotGoOn."""
    if wanted is None:
        raise CannotGoOn(f"There is no stopped harvest {where}.")
    return wanted


def author_of(row: Figures) -> Figures:
    """An author of a job, as the API shows it, with the names that the command prints."""
    names = ("position", "name", "state", "pages", "calls", "reason")
    return {name: row[name] for name in names} | _books_of(row)


def summary_of(
    label: str, job: object, figures: Figures, *, calls: int, failures: dict[str, int], failed: list[str]
) -> Figures:
    """The summary. `figures`: as selectors.author_figures. `failed`: the names of the failed authors."""
    return {
        "harvest": f"{label} (job {job})",
        "job": str(job),
        "authors": figures["authors"],
        **{state: figures[f"authors_{state}"] for state in STATES},
        **_books_of(figures),
        "calls": calls,
        "failures": failures,
        "failed_authors": failed,
    }


def _books_of(figures: Figures) -> Figures:
    became = {name: figures["failed" if name == "books_failed" else name] for name in BOOKS}
    return {"books": figures["found"], "enriched": sum(figures[name] for name in BOOKS[:3]), **became}


def what_is_left(summary: Figures) -> tuple[str, int]:
    """What a completed run has not done, "" if it has done everything, and the exit code."""
    if failed := summary[FAILED]:
        return f"{counted(failed, 'author')} failed; --resume tries again.", EXIT_FAILED
    if left := summary[PENDING]:
        return f"--limit: {counted(left, 'author')} left; --resume continues.", 0
    return "", 0
