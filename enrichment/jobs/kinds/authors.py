"""A job of authors: the pages of several authors are under way together, in the order of the list."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from django.db.models import Case, IntegerField, Q, QuerySet, When

from enrichment.authors.names import list_key
from enrichment.books.decoding import Answer
from enrichment.books.match_keys import name_key
from enrichment.exceptions import IsbndbError
from enrichment.gateway.listings import PAGE_SIZE
from enrichment.gateway.questions import Exchanged, Question
from enrichment.jobs.claims import held, save_step
from enrichment.jobs.listing_run import as_saved, calls_of, from_saved
from enrichment.jobs.registry import Handler, Run
from enrichment.models import Job, JobAuthor
from enrichment.selectors.books import remembered_author_misses
from enrichment.selectors.jobs import author_figures, max_pages_of, skips_existing
from enrichment.services.bibliographies import remember_author, remember_listing, walk_of
from enrichment.services.listings import Progress, Walk
from enrichment.services.stop_reasons import public_message, stop_reason
from quota.spending import Payer

MAX_FAILURES_IN_A_ROW = 5
"""After this many failed authors in a row, ISBNdb is the cause, and each further one would cost calls."""

_CHUNK = 500  # authors that are read at once
_INSERTED = 1000  # authors in one INSERT
_STATE = JobAuthor.State
_SAVED = (
    "state",
    "progress",
    "pages",
    "found",
    "new",
    "changed",
    "unchanged",
    "already_fresh",
    "failed",
    "calls",
    "reason",
)


class Kind(Handler):
    UNIT = "author"
    OPERATION = "bibliography"
    UNIT_IS_AN_OPERATION = True

    def plan(self) -> list[JobAuthor]:
        """The authors of a new job. In `wanted`, `requested` replaces the list; `list_key` identifies it."""
        job, wanted = self.job, dict(self.job.wanted)
        names = wanted.pop("authors")
        job.wanted = wanted | {"requested": len(names)}
        job.list_key = job.list_key or list_key(*map(name_key, names))
        job.total = len(names)
        return [JobAuthor(job=job, position=position, name=name) for position, name in enumerate(names, start=1)]

    def insert(self, rows: list[JobAuthor]) -> None:
        JobAuthor.objects.bulk_create(rows, _INSERTED)

    def begin(self) -> Run:
        return AuthorsRun(self.job)

    def is_left(self) -> bool:
        return authors_to_do(self.job).exists()

    def reset_failed(self) -> None:
        """Makes authors pending again that failed, or were cut by a smaller `max_pages`.

        The reason of a failure stays: these authors come last.
        """
        authors = self.job.authors
        authors.filter(_cut_by_less(self.job)).update(state=_STATE.PENDING, reason="")
        authors.filter(state=_STATE.FAILED).update(state=_STATE.PENDING)
        self.job.done = self.job.total - authors.filter(state=_STATE.PENDING).count()

    def result(self) -> dict[str, Any]:
        return author_figures(self.job)


def calls_for(job: Job, names: Sequence[str]) -> tuple[int, int]:
    """The calls for all authors of a list: at least and at most, without retries."""
    known = remembered_author_misses().filter(pk__any_of=names).count() if skips_existing(job) else 0
    return len(names) - known, len(names) * max_pages_of(job)


class AuthorsRun:
    """Fetches the pages of the pending authors, in order; those that failed before come last.

    A failed author does not end the job; MAX_FAILURES_IN_A_ROW do. `limit`: the maximum number of authors to begin.
    """

    def __init__(self, job: Job, *, limit: int | None = None) -> None:
        self.job = job
        self.failure: IsbndbError | None = None
        self.over: list[tuple[JobAuthor, str]] = []
        """The authors that are over, each with the sentence of its failure, until somebody takes them out."""
        pending = authors_to_do(job).filter(state=_STATE.PENDING)
        self._positions = deque(pending.values_list("position", flat=True)[:limit])
        self._ready: deque[JobAuthor] = deque()
        self._open: list[_OpenAuthor] = []
        self._asked: dict[Question[Answer], _OpenAuthor] = {}
        self._taken: _OpenAuthor | None = None  # until it is recorded
        self._failures = 0  # in a row

    def prepare(self) -> bool:
        return bool(self._open or self._ready or self._positions)

    def next_question(self, payer: Payer) -> Question[Answer] | None:
        for author in self._open:
            if question := author.next_question(payer):
                self._asked[question] = author
                return question
        while self._positions and not self._ready:
            self._read_more()
        if not self._ready:
            return None
        self._open.append(_OpenAuthor(self.job, self._ready.popleft()))
        return self.next_question(payer)

    def take(self, exchanged: Exchanged[Answer]) -> None:
        self._taken = author = self._asked.pop(exchanged.question)
        author.take(exchanged)
        if exchanged.is_answered:
            self._failures = 0
        if author.is_over:
            self._open.remove(author)
            author.conclude()
            if author.row.state == _STATE.FAILED:
                self._failures += 1
                if self._failures >= MAX_FAILURES_IN_A_ROW:
                    self.failure = author.walk.failure

    def checkpoint(self) -> dict[str, Any]:
        author, self._taken = self._taken, None
        if author is None:
            return {}
        row = author.row
        JobAuthor.objects.filter(job=self.job, position=row.position).update(
            **{name: getattr(row, name) for name in _SAVED}
        )
        if row.state == _STATE.PENDING:
            return {}
        self.over.append((row, author.detail))
        return {"done": self.job.done + 1}

    def _read_more(self) -> None:
        """Reads the next authors. Those whom ISBNdb recently did not know are over without a call."""
        positions = [self._positions.popleft() for _ in range(min(_CHUNK, len(self._positions)))]
        rows = {row.position: row for row in self.job.authors.filter(position__any_of=positions)}
        authors = [rows[position] for position in positions]
        missed: set[str] = set()
        if skips_existing(self.job):
            names = [author.name for author in authors if not author.progress]
            missed = set(remembered_author_misses().filter(pk__any_of=names).values_list("pk", flat=True))
        self._ready += [author for author in authors if author.name not in missed]
        unknown = [author for author in authors if author.name in missed]
        if unknown:
            at = [author.position for author in unknown]
            with held(self.job):
                self.job.authors.filter(position__any_of=at).update(state=_STATE.UNKNOWN, reason="")
                save_step(self.job, done=self.job.done + len(unknown))
            for author in unknown:
                author.state, author.reason = _STATE.UNKNOWN, ""
                self.over.append((author, ""))


class _OpenAuthor:
    """An author whose pages are being fetched."""

    def __init__(self, job: Job, row: JobAuthor) -> None:
        self.row = row
        self.detail = ""
        saved = {**row.progress}
        start_page = saved.pop("start_page", 1)
        self.walk: Walk = walk_of(
            row.name,
            start_page=start_page,
            max_pages=max_pages_of(job) - start_page + 1,
            skip_existing=skips_existing(job),
            **(from_saved(saved) or {"progress": _figures_of(row)}),
        )
        self._start_page = start_page

    @property
    def is_over(self) -> bool:
        return self.walk.is_complete or (self.walk.failure is not None and not self.walk.under_way)

    def next_question(self, payer: Payer) -> Question[Answer] | None:
        """The next page; None when there is none now. A failure ends the author, so it makes no sense to ask more."""
        return None if self.walk.failure else self.walk.next_question(payer)

    def take(self, exchanged: Exchanged[Answer]) -> None:
        self.walk.take(exchanged)
        row, figures = self.row, self.walk.progress
        row.calls += calls_of(exchanged)
        row.pages, row.found, row.failed = figures.pages_fetched, figures.books_found, figures.failed
        row.new, row.changed, row.unchanged = figures.new, figures.changed, figures.unchanged
        row.already_fresh = figures.already_fresh
        figures.errors.clear()
        row.progress = as_saved(self.walk) | {"start_page": self._start_page}

    def conclude(self) -> None:
        """Sets the state of an author that is over."""
        row, figures, failure = self.row, self.walk.progress, self.walk.failure
        if not self.walk.is_complete and failure is not None:
            row.state, row.reason, self.detail = _STATE.FAILED, stop_reason(failure), public_message(failure)
            if not row.pages:  # nothing is known: the next try begins with the first page, not with the one after it
                row.progress = {"start_page": self._start_page}
            return
        remember_author(row.name, figures)
        if figures.cut:
            row.state, row.reason = _STATE.CUT, "max_pages"
            row.progress = {"start_page": figures.cut[0] // PAGE_SIZE + 1}
            self._remember_listing()
            return
        row.progress = {}
        if figures.beyond_reach:
            row.state, row.reason = _STATE.CUT, "isbndb_ceiling"
        else:
            row.state, row.reason = _STATE.DONE if row.found else _STATE.UNKNOWN, ""
        self._remember_listing()

    def _remember_listing(self) -> None:
        if self._start_page == 1:
            next_page = self.row.progress.get("start_page")
            remember_listing(self.row.name, self.walk.progress, next_page=next_page, stopped_reason=self.row.reason)


def authors_to_do(job: Job) -> QuerySet[JobAuthor]:
    """The authors that are pending after `reset_failed`, also before it is called, in the order of a run.

    Authors that failed before come last. Otherwise a few that always fail would end every run before it reaches the
    rest.
    """
    cut = _cut_by_less(job)
    to_do = job.authors.filter(Q(state__in=[_STATE.PENDING, _STATE.FAILED]) | cut)
    failed_before = Case(When(Q(reason="") | cut, then=-1), default="calls", output_field=IntegerField())
    return to_do.order_by(failed_before, "position")


def _cut_by_less(job: Job) -> Q:
    """Authors that were cut by a smaller `max_pages` than the job has now."""
    return Q(state=_STATE.CUT, reason="max_pages", progress__start_page__lte=max_pages_of(job))


def _figures_of(row: JobAuthor) -> Progress:
    """The figures of an author whose earlier pages are done."""
    return Progress(
        pages_fetched=row.pages,
        new=row.new,
        changed=row.changed,
        unchanged=row.unchanged,
        already_fresh=row.already_fresh,
        failed=row.failed,
    )
