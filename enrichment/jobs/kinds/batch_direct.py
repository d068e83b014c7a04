"""A job of ISBNs: several batches are under way at once."""

import time
from collections import Counter, defaultdict
from typing import Any

from django.conf import settings
from django.db import connection

from enrichment.books.decoding import Answer
from enrichment.exceptions import EnrichmentStopped, IsbndbError, IsbndbPageTooLarge
from enrichment.gateway.asking import MAX_UNDER_WAY
from enrichment.gateway.questions import Exchanged, Question
from enrichment.isbn.reading import State, read
from enrichment.jobs.claims import held, renew, save_step
from enrichment.jobs.registry import Handler, Run
from enrichment.models import Job, JobItem
from enrichment.selectors.books import known_isbns
from enrichment.selectors.jobs import item_counts
from enrichment.selectors.refreshes import pending_by_the_same_authors, sync_times
from enrichment.services.enrich import Batches, Enrichment, add_answer
from enrichment.services.prices import PROBE_ISBNS, probe
from enrichment.services.refresh_plans import AuthorListing, BatchValue, batch_value, listings_can_pay, plan_refresh
from enrichment.services.refreshes import LISTINGS_TIME, MAX_DEBT, refresh_by_listing, savings
from quota.selectors.prices import batch_size_for, is_probe_due
from quota.spending import Payer, spending

Row = tuple[object, ...]

_COPY = "COPY enrichment_jobitem (job_id, position, value, isbn13, state, reason) FROM STDIN"
_STATE = JobItem.State
_STORED = ("created", "updated")
"""Figures of the enriched ISBNs in the job's progress. The rest of them is unchanged."""


class Kind(Handler):
    UNIT = "ISBN"
    OPERATION = "batch-direct"

    def plan(self) -> list[Row]:
        """The items of a new job, in the order given. In `wanted`, their number replaces the ISBNs."""
        wanted = dict(self.job.wanted)
        given = read(wanted.pop("isbns"), is_spreadsheet=wanted.get("spreadsheet", False))
        self.job.wanted = wanted | {"requested": given.requested}
        self.job.total = len(given.valid)
        rows: list[Row] = []
        for at, entry in enumerate(given.entries, 1):
            value = "" if entry.input == entry.isbn13 else entry.input.replace("\0", "")  # PostgreSQL cannot store NUL
            state = _STATE.PENDING if entry.state is State.VALID else _STATE(entry.state.value)
            rows.append((self.job.pk, at, value, entry.isbn13 or "", state.value, entry.reason or ""))
        return rows

    def insert(self, rows: list[Row]) -> None:
        """Stores the items with one COPY: there can be 100,000."""
        with connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(_COPY) as copy:
            for row in rows:
                copy.write_row(row)

    def begin(self) -> Run:
        return IsbnRun(self.job)

    def fail_rest(self) -> None:
        """Marks the pending ISBNs as failed, with the reason for the end of the job."""
        self.job.items.filter(state=_STATE.PENDING).update(state=_STATE.FAILED, reason=self.job.error)

    def is_left(self) -> bool:
        return self.job.items.filter(state=_STATE.FAILED).exists()

    def reset_failed(self) -> None:
        failed = self.job.items.filter(state=_STATE.FAILED).update(state=_STATE.PENDING, reason="")
        self.job.done = self.job.total - failed

    def result(self) -> dict[str, Any]:
        """The counts, with the names of POST /api/enrich/batch-direct. The outcome of each ISBN is in the items."""
        job, counts = self.job, item_counts(self.job)
        enriched, created, updated = counts.get(_STATE.ENRICHED, 0), *(job.progress.get(name, 0) for name in _STORED)
        return {
            "requested": job.wanted["requested"],
            "valid": job.total,
            "enriched": enriched,
            "created": created,
            "updated": updated,
            "unchanged": enriched - created - updated,
            "already_fresh": counts.get(_STATE.ALREADY_FRESH, 0),
            "not_found": counts.get(_STATE.NOT_FOUND, 0),
            "failed": counts.get(_STATE.FAILED, 0),
            "duplicates": counts.get(_STATE.DUPLICATE, 0),
            "invalid": counts.get(_STATE.INVALID, 0),
            "notes": job.wanted.get("notes", []),
        }


class IsbnRun:
    """Asks for the pending ISBNs in full batches, in order. What is known by then costs no call.

    A job that refreshes takes the listings of authors first, as long as they are cheaper (refresh_plans.py). A runner
    that dies after storing books and before recording them leaves fresh editions. They cost no second call, unless the
    job has `refresh`.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.failure: IsbndbError | None = None
        self.batches = Batches(self._next_batch)
        self._asked_up_to = 0  # position; what is under way is before it
        self._cleared_up_to: int | None = None  # by listings; None: no listing can pay
        self._answer: tuple[list[str], Enrichment] | None = None  # the last one, until it is recorded

    def prepare(self) -> bool:
        """Measures the price of a batch if it is unknown, and renews ISBNs by the listings of their authors."""
        self._asked_up_to = 0
        self._probe()
        self._cleared_up_to = self._refresh_by_listings() if self._refreshes else None
        return self.job.items.filter(state=_STATE.PENDING).exists()

    def next_question(self, payer: Payer) -> Question[Answer] | None:
        return self.batches.next_question(payer)

    def take(self, exchanged: Exchanged[Answer]) -> None:
        asked = self.batches.asked_by(exchanged)
        if exchanged.answer is not None:
            self._store(asked, exchanged.answer)
        elif isinstance(exchanged.failure, IsbndbPageTooLarge):
            self.batches.halve(asked)
        else:
            self.failure = self.failure or exchanged.failure

    def checkpoint(self) -> dict[str, Any]:
        if self._answer is None:
            return {}
        (asked, result), self._answer = self._answer, None
        states = _mark(self.job, asked, result)
        counts = {name: self.job.progress.get(name, 0) + getattr(result, name) for name in _STORED}
        return {"done": self.job.done + states.total(), "progress": self.job.progress | counts}

    @property
    def _refreshes(self) -> bool:
        return bool(self.job.wanted.get("refresh"))

    def _store(self, asked: list[str], answer: Answer) -> None:
        result = Enrichment()
        add_answer(asked, answer, result)
        self._answer = asked, result

    def _probe(self) -> None:
        """Asks for the first two ISBNs in a way that shows the price of a batch, if it is unknown."""
        if not is_probe_due() or not (batch := self._next_batch()):
            return
        self._asked_up_to = 0
        payer = spending(consumer=self.job.consumer.slug, operation=Kind.OPERATION, calls=0, source=self.job.source)
        with payer as spender:
            answer = probe(batch, spender)
        if answer is not None:
            self._store(batch[:PROBE_ISBNS], answer)
            with held(self.job):
                save_step(self.job, **self.checkpoint())

    def _next_batch(self) -> list[str]:
        """The next pending ISBNs that ISBNdb has to be asked for, as many as the free calls pay for, at most one batch.

        Marks the known ones before them.
        """
        while batch := self._pending(after=self._asked_up_to, up_to=self._cleared_up_to):
            isbns = list(batch)
            known = known_isbns(isbns, refresh=self._refreshes)
            if len(known.wanted) < len(isbns):
                with held(self.job):
                    _set(self.job, known.fresh, _STATE.ALREADY_FRESH)
                    _set(self.job, known.missed, _STATE.NOT_FOUND)
                    save_step(self.job, done=self.job.done + len(known.fresh) + len(known.missed))
                continue
            isbns = isbns[: batch_size_for(self.job.consumer.slug)]
            self._asked_up_to = batch[isbns[-1]]
            return isbns
        return []

    def _pending(self, *, after: int, up_to: int | None = None) -> dict[str, int]:
        """The next pending ISBNs, at most one batch, with their positions."""
        pending = self.job.items.filter(state=_STATE.PENDING, position__gt=after).order_by("position")
        if up_to is not None:
            pending = pending.filter(position__lte=up_to)
        return dict(pending.values_list("isbn13", "position")[: settings.ISBNDB_BATCH_SIZE])

    def _refresh_by_listings(self) -> int | None:
        """Renews ISBNs by the listings of their authors, for as many batches as are under way at once.

        Returns the position up to which batches are as cheap as listings; None: for all. Raises what `prepare` raises.
        """
        at = 0
        for _ in range(MAX_UNDER_WAY):
            while batch := self._pending(after=at):
                if not self._can_listings_pay():
                    return None
                if not self._take_listings(list(batch)):
                    at = max(batch.values())
                    break
                if renew(self.job):  # somebody has requested a stop
                    return 0
        return at

    def _can_listings_pay(self) -> bool:
        return self.job.progress.get("saved", 0) > -MAX_DEBT and listings_can_pay(batch_value())

    def _take_listings(self, batch: list[str]) -> bool:
        """Carries out the listings that are cheaper than batches, for `batch` and all ISBNs by the same authors.

        Returns whether there were any. The job's progress remembers what listings have saved, and the authors whose
        listings disappointed.
        """
        wanted = pending_by_the_same_authors(self.job, batch)
        plan = plan_refresh(wanted, without=self.job.progress.get("disappointing", ()))
        turn_ends = time.monotonic() + LISTINGS_TIME.total_seconds()
        for number, listing in enumerate(plan.listings):
            if number and (time.monotonic() > turn_ends or renew(self.job)):
                break
            _refresh_by_listing(self.job, listing, batch, plan.batch)
            if self.job.progress["saved"] <= -MAX_DEBT:
                break
        return bool(plan.listings)


def _refresh_by_listing(job: Job, listing: AuthorListing, batch: list[str], value: BatchValue) -> None:
    """Fetches a listing and marks what it has renewed, also when it ends with a failure, which is raised then."""
    before = sync_times({*listing.isbns, *batch})
    stopped: EnrichmentStopped | None = None
    try:
        renewal = refresh_by_listing(listing, batch=value, consumer=job.consumer.slug, source=job.source)
    except EnrichmentStopped as error:
        renewal, stopped = error.result, error
    missing = len(listing.isbns) - len(renewal.renewed)
    failed = stopped is not None and isinstance(stopped.reason, IsbndbError)
    progress = dict(job.progress)
    progress["updated"] = progress.get("updated", 0) + len(before.updated_since())
    progress["saved"] = progress.get("saved", 0) + savings(
        len(renewal.renewed), value, calls=renewal.progress.api_calls
    )
    if failed or (stopped is None and value.is_less_than(missing, calls=1)):
        progress["disappointing"] = [*progress.get("disappointing", []), listing.name]
    with held(job):
        job.done += _set(job, before.synced_since(), _STATE.ENRICHED)
        save_step(job, failed=stopped is not None, done=job.done, progress=progress)
    if stopped:
        raise stopped


def _mark(job: Job, batch: list[str], result: Enrichment) -> Counter[str]:
    """Records the outcome of a batch in the items; returns how many are now in which state."""
    failed: dict[str, set[str]] = defaultdict(set)
    asked = set(batch)
    for error in result.errors:
        if error.isbn in asked:
            failed[error.error].add(error.isbn)
    states = Counter(
        {_STATE.FAILED.value: sum(_set(job, isbns, _STATE.FAILED, reason) for reason, isbns in failed.items())}
    )
    missing = set(result.not_found_isbns).difference(*failed.values())
    states[_STATE.NOT_FOUND.value] = _set(job, missing, _STATE.NOT_FOUND)
    states[_STATE.ENRICHED.value] = _set(job, asked.difference(missing, *failed.values()), _STATE.ENRICHED)
    return states


def _set(job: Job, isbns: set[str], state: JobItem.State, reason: str = "") -> int:
    # The index by ISBN excludes empty ones and duplicates, and PostgreSQL cannot see that these are neither.
    pending = (
        job.items.filter(state=_STATE.PENDING, isbn13__any_of=isbns).exclude(isbn13="").exclude(state=_STATE.DUPLICATE)
    )
    return pending.update(state=state, reason=reason)
