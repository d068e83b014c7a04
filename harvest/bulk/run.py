"""The harvest itself: author by author, page by page, with a record of each. It works on any Fetcher and Checkpoint."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from enrichment.authors.names import AuthorList
from harvest.bulk.exceptions import AuthorFailed, CannotGoOn, Interrupted, NotFetched, QuotaGone, TryLater

T = TypeVar("T")

QUOTA_EVERY = 100  # authors
PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds between tries while our server or database is out of reach."""
MAX_PAUSE_SECONDS = 60.0  # also when a server asks for more
MAX_SLEEP_SECONDS = 600.0
"""After this time the harvest asks for quota again, which costs nothing: a person may have raised it."""
MAX_FAILURES_IN_A_ROW = 5
"""After this many failed authors in a row, ISBNdb or the server is the cause, and each further one would cost calls."""
NO_ANSWER = "no_answer"
"""The reason of an author that failed without an answer, and that may have been paid for twice."""

PENDING, DONE, UNKNOWN, CUT, FAILED = "pending", "done", "unknown", "cut", "failed"
FIGURES = ("state", "next_page", "books", "enriched", "calls", "reason")
"""The fields of an Entry that change and are saved."""


@dataclass
class Entry:
    """An author of the list, with the results of the pages so far. `position` counts from 1."""

    position: int
    name: str
    state: str = PENDING
    next_page: int = 1
    books: int = 0
    enriched: int = 0
    calls: int = 0
    reason: str = ""

    def reopen(self, max_pages: int) -> bool:
        """Makes an author pending again that failed, or was cut by a smaller `max_pages`; returns whether it did."""
        cut_short = self.state == CUT and self.reason == "max_pages" and self.next_page <= max_pages
        if self.state != FAILED and not cut_short:
            return False
        if cut_short:
            self.reason = ""
        self.state = PENDING  # the reason of a failure stays: `to_do` reads it
        return True


def to_do(entries: Iterable[Entry]) -> list[Entry]:
    """The pending authors, in order. Those that failed before come last, the fewest calls first.

    Otherwise a few authors that always fail would end every run before it reaches the rest.
    """
    pending = [entry for entry in entries if entry.state == PENDING]
    return sorted(pending, key=lambda entry: (entry.reason != "", entry.reason != "" and entry.calls))


def new_entries(names: Iterable[str]) -> list[Entry]:
    """Authors without a fetched page."""
    return [Entry(position, name) for position, name in enumerate(names, start=1)]


@dataclass(frozen=True)
class Page:
    """The result of one page of 1,000 books. `free`: calls that are left today, if known."""

    books: int
    enriched: int
    failed: int
    calls: int
    complete: bool
    next_page: int | None
    stopped_reason: str | None
    free: int | None = None


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


class Fetcher(Protocol):
    """Where the harvest gets its pages. Every method can raise TryLater and CannotGoOn.

    `source`: the source of its calls in the journal.
    """

    source: str

    def quota(self) -> Quota: ...

    def fetch(self, name: str, *, page: int) -> Page:
        """Fetches and stores one page. Also raises AuthorFailed and QuotaGone."""

    def names_by_editions(self, first: int, last: int) -> list[str]:
        """The stored authors from rank `first` (from 1) to `last` by number of editions."""

    def remembered(self, names: list[str]) -> int:
        """How many of the authors are recorded as unknown to ISBNdb, and cost no call."""

    def days(self, calls: int) -> int | None:
        """How many UTC days the calls take if nobody else spends any; None when they can never be made."""

    def close(self) -> None:
        """Closes all connections."""


class Checkpoint(Protocol):
    """The saved list and the results of each author."""

    label: str
    source: str
    max_pages: int
    entries: list[Entry]

    def save(self, entry: Entry) -> None:
        """Saves the result of a page. Raises AnotherCopy and TryLater."""

    def calls(self) -> int:
        """What the list has cost so far, including calls of a process that was killed before it could save them."""

    def renew(self) -> None:
        """Renews the lease of this process. Raises AnotherCopy and TryLater."""

    def close(self, *, reason: str) -> None:
        """Releases the checkpoint: stopped for the reason, or finished when it is empty."""


Seen = tuple[str, list[Entry], int]
"""The label of a harvest, its authors, and the maximum number of pages of each."""


class Store(Protocol):
    """Where checkpoints are kept. Both methods raise NothingToResume, CannotGoOn and TryLater."""

    def look(self, wanted: AuthorList | None, *, resume: bool) -> Seen:
        """What a harvest would work on; starts nothing."""

    def open(self, wanted: AuthorList | None, *, max_pages: int | None, resume: bool, restart: bool) -> Checkpoint:
        """Starts the harvest of a list. `resume`: continues its latest harvest (`wanted` None: see the class).

        `resume` also makes failed authors pending again, and those cut by a smaller `max_pages` (None: unchanged).
        `restart` abandons a stopped harvest of the list. Also raises AlreadyBegun (with neither) and AnotherCopy.
        """


class Listener(Protocol):
    """Reports the progress to people or programs."""

    def quota(self, quota: Quota) -> None: ...

    def page(self, entry: Entry, page: Page) -> None: ...

    def author(self, entry: Entry, detail: str) -> None: ...

    def waiting(self, gone: QuotaGone) -> None: ...

    def trying_again(self, error: TryLater, seconds: float) -> None: ...


class Run:
    """One run over the pending authors of a list. A signal handler can end it with `stop`."""

    def __init__(self, fetcher: Fetcher, checkpoint: Checkpoint, *, limit: int | None, wait: bool) -> None:
        """`limit`: the maximum number of authors. `wait`: wait for more quota when it is used up."""
        self.fetcher = fetcher
        self.checkpoint = checkpoint
        self.entries = to_do(checkpoint.entries)[:limit]
        self.wait = wait
        self.stopping = False
        self._failures = 0
        self._waiting_for: datetime | None = None

    def stop(self) -> None:
        """Ends the run after the current page."""
        self.stopping = True

    def harvest(self, listener: Listener) -> None:
        """Harvests the pending authors and reports to `listener`.

        Raises QuotaGone (unless `wait`), Interrupted, AnotherCopy and CannotGoOn; all results so far are saved.
        """
        self.listener = listener
        for number, entry in enumerate(self.entries):
            if number % QUOTA_EVERY == 0:
                self.listener.quota(self._patiently(self.fetcher.quota))
            detail = self._harvest_author(entry)
            self.listener.author(entry, detail)
            if self._failures >= MAX_FAILURES_IN_A_ROW:
                raise CannotGoOn(f"{self._failures} authors failed in a row. The last failure: {detail}")

    def _harvest_author(self, entry: Entry) -> str:
        """Fetches the remaining pages of an author; returns the details of a failure."""
        detail = ""
        while entry.state == PENDING:
            self._raise_if_stopping()
            try:
                page = self._patiently(lambda: self._fetch(entry))
            except (CannotGoOn, Interrupted):
                with suppress(TryLater):  # saves the cost of the tries; the reason for the end matters more
                    self.checkpoint.save(entry)
                raise
            except AuthorFailed as failed:
                entry.state, entry.reason, detail = FAILED, failed.reason, str(failed)
                self._failures += failed.reason == NO_ANSWER or failed.reason.startswith("isbndb")
            except QuotaGone as gone:
                self._patiently(lambda: self.checkpoint.save(entry))
                self._wait_for_quota(gone)
                continue
            else:
                self._take(page, entry)
                self.listener.page(entry, page)
            self._patiently(lambda: self.checkpoint.save(entry))
        return detail

    def _fetch(self, entry: Entry) -> Page:
        try:
            page = self.fetcher.fetch(entry.name, page=entry.next_page)
        except NotFetched as error:
            entry.calls += error.calls
            raise
        entry.calls += page.calls
        if not page.complete and page.next_page is not None and page.next_page <= entry.next_page:
            raise TryLater(f"{entry.name}, page {entry.next_page}: stopped ({page.stopped_reason}).")
        return page

    def _take(self, page: Page, entry: Entry) -> None:
        self._failures = 0
        self._waiting_for = None
        entry.reason = ""
        entry.books += page.books
        entry.enriched += page.enriched
        if page.complete:
            entry.state = DONE if entry.books or page.failed else UNKNOWN
        elif page.next_page is None:
            entry.state, entry.reason = CUT, page.stopped_reason or ""
        else:
            entry.next_page = page.next_page
            if entry.next_page > self.checkpoint.max_pages:
                entry.state, entry.reason = CUT, "max_pages"

    def _wait_for_quota(self, gone: QuotaGone) -> None:
        """Always waits for midnight, which is seconds away; waits for another limit if `wait` is set and it can end."""
        if gone.seconds is None or not (self.wait or gone.limit == "midnight"):
            raise gone
        if gone.retry_at != self._waiting_for:
            self._waiting_for = gone.retry_at
            self.listener.waiting(gone)
        self._sleep(min(gone.seconds + 1, MAX_SLEEP_SECONDS))
        self._patiently(self.checkpoint.renew)

    def _patiently(self, act: Callable[[], T]) -> T:
        """Calls `act` again, a limited number of times, while our server or database is out of reach.

        A request that may have been paid for is tried only once more; then it is AuthorFailed.
        """
        tries = doubts = 0
        while True:
            try:
                return act()
            except TryLater as error:
                tries, doubts = tries + 1, doubts + error.in_doubt
                if doubts > 1:
                    raise AuthorFailed(NO_ANSWER, str(error)) from error
                if tries > len(PAUSES):
                    raise CannotGoOn(f"{error} Gave up after {tries} tries.") from error
                seconds = min(max(PAUSES[tries - 1], error.retry_after or 0), MAX_PAUSE_SECONDS)
                self.listener.trying_again(error, seconds)
                self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        """Sleeps, but ends at once when `stop` is called."""
        until = time.monotonic() + seconds
        self._raise_if_stopping()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            self._raise_if_stopping()

    def _raise_if_stopping(self) -> None:
        if self.stopping:
            raise Interrupted("Interrupted.")
