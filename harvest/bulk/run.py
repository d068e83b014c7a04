"""The harvest itself, whatever it works on: author by author, page by page, with a note of each."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from harvest.bulk.exceptions import AuthorFailed, CannotGoOn, Interrupted, NotFetched, QuotaGone, TryLater
from harvest.bulk.names import AuthorList

T = TypeVar("T")

QUOTA_EVERY = 100  # authors
PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds between the tries when our own side is out of reach."""
LONGEST_PAUSE = 60.0  # seconds, whatever a server asks for
LONGEST_SLEEP = 600.0
"""Seconds; then the quota is tried again, which costs nothing: somebody may have raised it."""
FAILURES_IN_A_ROW = 5
"""As many authors that fail on end are a failure of ISBNdb or of the server: each costs calls."""
NO_ANSWER = "no_answer"
"""The reason of an author who may have been paid for twice, without an answer."""

PENDING, DONE, UNKNOWN, CUT, FAILED = "pending", "done", "unknown", "cut", "failed"
FIGURES = ("state", "next_page", "books", "enriched", "calls", "reason")
"""What changes of an Entry, and is kept."""


@dataclass
class Entry:
    """An author of the list, and what came of the pages until now. `position` is from 1."""

    position: int
    name: str
    state: str = PENDING
    next_page: int = 1
    books: int = 0
    enriched: int = 0
    calls: int = 0
    reason: str = ""

    def reopen(self, max_pages: int) -> bool:
        """Takes up again what failed, or was cut short by fewer pages than `max_pages`; says whether it did."""
        cut_short = self.state == CUT and self.reason == "max_pages" and self.next_page <= max_pages
        if self.state != FAILED and not cut_short:
            return False
        if cut_short:
            self.reason = ""
        self.state = PENDING  # with the reason of a failure, by which `to_do` knows it
        return True


def to_do(entries: Iterable[Entry]) -> list[Entry]:
    """What is pending, in the order in which it is asked for: what failed before comes last, the least tried first.

    Otherwise a few authors on whom ISBNdb always fails would end each run before it comes to the rest.
    """
    pending = [entry for entry in entries if entry.state == PENDING]
    return sorted(pending, key=lambda entry: (entry.reason != "", entry.reason != "" and entry.calls))


def new_entries(names: Iterable[str]) -> list[Entry]:
    """Authors of whom nothing was asked yet."""
    return [Entry(position, name) for position, name in enumerate(names, start=1)]


@dataclass(frozen=True)
class Page:
    """What came of asking for one page of 1,000 books. `free`: calls that are left today, where known."""

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

    `free`: what this harvest could take of it now; None when a server tells only what is left for all. `why_none`: why
    nothing is free, where that is told.
    """

    used: int
    reserved: int
    safety_limit: int
    remaining: int
    free: int | None
    reset_at: datetime
    why_none: str = ""

    @property
    def most(self) -> int:
        """The most that this harvest could take now, as far as is known."""
        return self.remaining if self.free is None else self.free


class Fetcher(Protocol):
    """What the harvest works through. Every method may raise TryLater and CannotGoOn.

    `source`: what its calls are for, for the record.
    """

    source: str

    def quota(self) -> Quota: ...

    def fetch(self, name: str, *, page: int) -> Page:
        """Has one page stored. Raises AuthorFailed and QuotaGone, too."""

    def names_by_editions(self, first: int, last: int) -> list[str]:
        """The stored authors from rank `first` (from 1) to `last` by number of editions."""

    def remembered(self, names: list[str]) -> int:
        """How many of the authors are known to be unknown to ISBNdb, and cost no call."""

    def days(self, calls: int) -> int | None:
        """How many UTC days so many calls take, if nobody else spends any; None when they may never be made."""

    def close(self) -> None:
        """Ends it."""


class Checkpoint(Protocol):
    """Where the list and what came of each author is kept."""

    label: str
    source: str
    max_pages: int
    entries: list[Entry]

    def save(self, entry: Entry) -> None:
        """Puts on record what came of a page. Raises AnotherCopy and TryLater."""

    def calls(self) -> int:
        """What the list has cost until now, also what no author could be told of: a process may end while it waits."""

    def renew(self) -> None:
        """Says that this process is still at work. Raises AnotherCopy and TryLater."""

    def close(self, *, reason: str) -> None:
        """Lets go: stopped for a reason, or finished when that is empty."""


Seen = tuple[str, list[Entry], int]
"""What a harvest is called, its authors, and the most pages of each."""


class Store(Protocol):
    """Where checkpoints are. Both methods raise NothingToResume, CannotGoOn and TryLater."""

    def look(self, wanted: AuthorList | None, *, resume: bool) -> Seen:
        """What a harvest would work on, without beginning it."""

    def open(self, wanted: AuthorList | None, *, max_pages: int | None, resume: bool, restart: bool) -> Checkpoint:
        """Begins the harvest of a list, or with `resume` goes on with the latest of it (`wanted` None: see there).

        With `resume`, what failed is taken up again, and what was cut by fewer pages than `max_pages` (None: as
        before). `restart`: one that stopped on its way is abandoned. Raises AlreadyBegun (neither `resume` nor
        `restart`) and AnotherCopy, too.
        """


class Listener(Protocol):
    """Who tells people or programs how it goes."""

    def quota(self, quota: Quota) -> None: ...

    def page(self, entry: Entry, page: Page) -> None: ...

    def author(self, entry: Entry, detail: str) -> None: ...

    def waiting(self, gone: QuotaGone) -> None: ...

    def trying_again(self, error: TryLater, seconds: float) -> None: ...


class Run:
    """One run over what is pending of a list; `harvest` is the whole of it, `stop` ends it from a signal handler."""

    def __init__(self, fetcher: Fetcher, checkpoint: Checkpoint, *, limit: int | None, wait: bool) -> None:
        """`limit`: the most authors. `wait`: for more quota when it is gone."""
        self.fetcher = fetcher
        self.checkpoint = checkpoint
        self.entries = to_do(checkpoint.entries)[:limit]
        self.wait = wait
        self.stopping = False
        self._failures = 0
        self._waiting_for: datetime | None = None

    def stop(self) -> None:
        """Asks for an end after the page under way."""
        self.stopping = True

    def harvest(self, listener: Listener) -> None:
        """Harvests the authors that are pending, and tells `listener` of it.

        Raises QuotaGone (unless `wait`), Interrupted, AnotherCopy and CannotGoOn; what came until then is on record.
        """
        self.listener = listener
        for number, entry in enumerate(self.entries):
            if number % QUOTA_EVERY == 0:
                self.listener.quota(self._patiently(self.fetcher.quota))
            detail = self._harvest_author(entry)
            self.listener.author(entry, detail)
            if self._failures >= FAILURES_IN_A_ROW:
                raise CannotGoOn(f"{self._failures} authors failed in a row, the last one because: {detail}")

    def _harvest_author(self, entry: Entry) -> str:
        """Fetches what is left of an author's pages; returns what there is to say about a failure."""
        detail = ""
        while entry.state == PENDING:
            self._end_if_asked_to()
            try:
                page = self._patiently(lambda: self._fetch(entry))
            except (CannotGoOn, Interrupted):
                with suppress(TryLater):  # what the tries have cost; the reason for the end matters more
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
            raise TryLater(f"{entry.name}, page {entry.next_page}: stopped, {page.stopped_reason}.")
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
        """Midnight is over in a moment; any other limit is waited for when that was asked for, and may end."""
        if gone.seconds is None or not (self.wait or gone.limit == "midnight"):
            raise gone
        if gone.retry_at != self._waiting_for:
            self._waiting_for = gone.retry_at
            self.listener.waiting(gone)
        self._sleep(min(gone.seconds + 1, LONGEST_SLEEP))
        self._patiently(self.checkpoint.renew)

    def _patiently(self, act: Callable[[], T]) -> T:
        """Does it, again and again within bounds while our own side is out of reach.

        What may have been paid for is tried once more, and then given up with AuthorFailed.
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
                seconds = min(max(PAUSES[tries - 1], error.retry_after or 0), LONGEST_PAUSE)
                self.listener.trying_again(error, seconds)
                self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        """Sleeps, but not on when an end is asked for."""
        until = time.monotonic() + seconds
        self._end_if_asked_to()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            self._end_if_asked_to()

    def _end_if_asked_to(self) -> None:
        if self.stopping:
            raise Interrupted("Interrupted.")
