"""A job of ISBNs: each step asks ISBNdb for one batch. ISBNs that are known by then cost no call.

A job that refreshes takes the listings of authors first, as long as they are cheaper (refresh_plans.py): a step plans
for the next batch and all ISBNs of the job by the same authors, and carries out as many listings as it has time for.
"""

import time
from collections import Counter, defaultdict
from typing import Any

from django.conf import settings
from django.db import connection

from enrichment import selectors
from enrichment.exceptions import EnrichmentStopped, IsbndbError
from enrichment.isbn.parsing import parse_many
from enrichment.jobs.claims import held, renew, save_step
from enrichment.models import Job, JobItem
from enrichment.services.enrich import Enrichment, enrich_isbns
from enrichment.services.refresh_plans import AuthorListing, BatchValue, batch_value, listings_can_pay, plan_refresh
from enrichment.services.refreshes import LISTINGS_TIME, MAX_DEBT, refresh_by_listing, savings
from quota.selectors.prices import batch_size_for

Row = tuple[object, ...]

_COPY = "COPY enrichment_jobitem (job_id, position, value, isbn13, state, reason) FROM STDIN"
_STATE = JobItem.State


def plan(job: Job) -> list[Row]:
    """The items of a new job, for `insert`: valid ISBNs first. In `wanted`, the length replaces the list of ISBNs."""
    isbns = job.wanted["isbns"]
    parsed = parse_many(isbns)
    job.wanted = {name: value for name, value in job.wanted.items() if name != "isbns"} | {"requested": len(isbns)}
    job.total = len(parsed.valid)
    rows: list[Row] = [(job.pk, at, "", isbn, _STATE.PENDING.value, "") for at, isbn in enumerate(parsed.valid, 1)]
    for at, entry in enumerate(parsed.invalid, job.total + 1):
        # PostgreSQL cannot store NUL.
        rows.append((job.pk, at, entry.isbn.replace("\0", ""), "", _STATE.INVALID.value, entry.reason.value))
    return rows


def insert(rows: list[Row]) -> None:
    """Stores the rows of `plan` with one COPY: there can be 100,000."""
    with connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(_COPY) as copy:
        for row in rows:
            copy.write_row(row)


def step(job: Job) -> bool:
    """Asks ISBNdb for one batch and records the outcome of each ISBN; False when nothing was left to ask for.

    Raises EnrichmentStopped and ClaimLost. A runner that dies after storing the books and before recording leaves fresh
    editions. They cost no second call, unless the job has `refresh`.
    """
    batch = _next_batch(job)
    if not batch:
        return False
    if job.wanted.get("refresh") and _refresh_by_listings(job, batch):
        return True
    # `_next_batch` has left out what is known.
    result = enrich_isbns(batch, consumer=job.consumer.slug, source=job.source, refresh=True)
    with held(job):
        states = _mark(job, batch, result)
        counts = {name: job.progress.get(name, 0) + getattr(result, name) for name in ("created", "updated")}
        save_step(job, done=job.done + states.total(), progress=job.progress | counts)
    return True


def fail_rest(job: Job) -> None:
    """Marks the pending ISBNs as failed, with the reason for the end of the job."""
    job.items.filter(state=_STATE.PENDING).update(state=_STATE.FAILED, reason=job.error)


def reset_failed(job: Job) -> bool:
    """Makes the failed ISBNs pending again; False when there are none."""
    failed = job.items.filter(state=_STATE.FAILED).update(state=_STATE.PENDING, reason="")
    job.done = job.total - failed
    return failed > 0


def result(job: Job) -> dict[str, Any]:
    """The counts, with the names of POST /api/enrich/batch-direct. The outcome of each ISBN is in the items."""
    counts = selectors.item_counts(job)
    return {
        "requested": job.wanted["requested"],
        "valid": job.total,
        "enriched": counts.get(_STATE.ENRICHED, 0),
        "created": job.progress.get("created", 0),
        "updated": job.progress.get("updated", 0),
        "already_fresh": counts.get(_STATE.FRESH, 0),
        "not_found": counts.get(_STATE.NOT_FOUND, 0),
        "failed": counts.get(_STATE.FAILED, 0),
        "invalid": counts.get(_STATE.INVALID, 0),
    }


def _next_batch(job: Job) -> list[str]:
    """The next pending ISBNs that ISBNdb has to be asked for, as many as the free calls pay for, at most one batch.

    Marks the known ones before them.
    """
    while True:
        pending = job.items.filter(state=_STATE.PENDING).order_by("position").values_list("isbn13", flat=True)
        batch = list(pending[: settings.ISBNDB_BATCH_SIZE])
        if not batch:
            return []
        if job.wanted.get("refresh"):
            return batch[: batch_size_for(job.consumer.slug)]
        known = selectors.known_isbns(batch)
        if len(known.wanted) == len(batch):
            return batch[: batch_size_for(job.consumer.slug)]
        with held(job):
            _set(job, known.fresh, _STATE.FRESH)
            _set(job, known.missed, _STATE.NOT_FOUND)
            save_step(job, done=job.done + len(known.fresh) + len(known.missed))


def _refresh_by_listings(job: Job, batch: list[str]) -> bool:
    """Renews ISBNs of the job by the listings of their authors; False when batches are as cheap for `batch`.

    The job's progress remembers what listings have saved, and the authors whose listings disappointed. Raises what
    `step` raises.
    """
    if job.progress.get("saved", 0) <= -MAX_DEBT or not listings_can_pay(batch_value()):
        return False
    wanted = selectors.pending_by_the_same_authors(job, batch)
    plan = plan_refresh(wanted, without=job.progress.get("disappointing", ()))
    turn_ends = time.monotonic() + LISTINGS_TIME.total_seconds()
    for number, listing in enumerate(plan.listings):
        if number and (time.monotonic() > turn_ends or renew(job)):
            break
        _refresh_by_listing(job, listing, batch, plan.batch)
        if job.progress["saved"] <= -MAX_DEBT:
            break
    return bool(plan.listings)


def _refresh_by_listing(job: Job, listing: AuthorListing, batch: list[str], value: BatchValue) -> None:
    """Fetches a listing and marks what it has renewed, also when it ends with a failure, which is raised then."""
    before = selectors.sync_times({*listing.isbns, *batch})
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
        if stopped is None:
            save_step(job, done=job.done, progress=progress)
        else:  # the step has not succeeded: its failures still count
            job.progress = progress
            job.save(update_fields=["done", "progress"])
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
    # The index by ISBN excludes empty ones, and PostgreSQL cannot see that a long list has none.
    pending = job.items.filter(state=_STATE.PENDING, isbn13__in=isbns).exclude(isbn13="")
    return pending.update(state=state, reason=reason)
