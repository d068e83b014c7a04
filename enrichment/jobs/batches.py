"""A job of ISBNs: each step asks ISBNdb for one batch. ISBNs that are known by then cost no call."""

from collections import Counter, defaultdict
from typing import Any

from django.conf import settings
from django.db import connection

from enrichment import selectors
from enrichment.isbn.parsing import parse_many
from enrichment.jobs.claims import held, save_step
from enrichment.models import Job, JobItem
from enrichment.services.enrich import Enrichment, enrich_isbns
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
    # `_next_batch` has left out what is known.
    result = enrich_isbns(batch, consumer=job.consumer.slug, source=job.source, refresh=True)
    with held(job):
        states = _mark(job, batch, result)
        progress = {name: job.progress.get(name, 0) + getattr(result, name) for name in ("created", "updated")}
        save_step(job, done=job.done + states.total(), progress=progress)
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
