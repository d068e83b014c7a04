"""A job of ISBNs: a full batch a step, whatever of it has to be asked for. What is known by then costs no call."""

from collections import Counter, defaultdict
from typing import Any

from django.conf import settings
from django.db import connection

from enrichment import selectors
from enrichment.isbn.parsing import parse_many
from enrichment.jobs.claims import held, save_step
from enrichment.models import Job, JobItem
from enrichment.services.enrich import Enrichment, enrich_isbns

Row = tuple[object, ...]

_COPY = "COPY enrichment_jobitem (job_id, position, value, isbn13, state, reason) FROM STDIN"
_STATE = JobItem.State


def plan(job: Job) -> list[Row]:
    """The items of a new job, for `insert`: valid ISBNs first. The list of ISBNs leaves `wanted`, its length stays."""
    isbns = job.wanted["isbns"]
    parsed = parse_many(isbns)
    job.wanted = {name: value for name, value in job.wanted.items() if name != "isbns"} | {"requested": len(isbns)}
    job.total = len(parsed.valid)
    rows: list[Row] = [(job.pk, at, "", isbn, _STATE.PENDING.value, "") for at, isbn in enumerate(parsed.valid, 1)]
    for at, entry in enumerate(parsed.invalid, job.total + 1):
        # PostgreSQL stores no NUL
        rows.append((job.pk, at, entry.isbn.replace("\0", ""), "", _STATE.INVALID.value, entry.reason.value))
    return rows


def insert(rows: list[Row]) -> None:
    """Stores what `plan` gave: 100,000 rows in one COPY."""
    with connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(_COPY) as copy:
        for row in rows:
            copy.write_row(row)


def step(job: Job) -> bool:
    """Asks for one batch, with one call, and writes what came of it; False when nothing was left to be asked for.

    Raises EnrichmentStopped and ClaimLost. Whoever dies between storing the books and writing here leaves editions
    that are fresh: they cost no second call, unless the job is to `refresh`.
    """
    batch = _next_batch(job)
    if not batch:
        return False
    # What is known has just been left out.
    result = enrich_isbns(batch, consumer=job.consumer.slug, source=job.source, refresh=True)
    with held(job):
        states = _mark(job, batch, result)
        progress = {name: job.progress.get(name, 0) + getattr(result, name) for name in ("created", "updated")}
        save_step(job, done=job.done + states.total(), progress=progress)
    return True


def give_up_rest(job: Job) -> None:
    """What is not done has failed, for the reason for which the job ends."""
    job.items.filter(state=_STATE.PENDING).update(state=_STATE.FAILED, reason=job.error)


def try_again(job: Job) -> bool:
    """Makes what failed pending again; False when nothing did."""
    failed = job.items.filter(state=_STATE.FAILED).update(state=_STATE.PENDING, reason="")
    job.done = job.total - failed
    return failed > 0


def result(job: Job) -> dict[str, Any]:
    """Counts in the terms of POST /api/enrich/batch-direct; what each ISBN came to stands in the items."""
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
    """The next pending ISBNs that have to be asked for, as many as one call takes; the known ones before are marked."""
    size = settings.ISBNDB_BATCH_SIZE
    while True:
        pending = job.items.filter(state=_STATE.PENDING).order_by("position").values_list("isbn13", flat=True)
        batch = list(pending[:size])
        if not batch or job.wanted.get("refresh"):
            return batch
        known = selectors.known_isbns(batch)
        if len(known.wanted) == len(batch):
            return batch
        with held(job):
            _set(job, known.fresh, _STATE.FRESH)
            _set(job, known.missed, _STATE.NOT_FOUND)
            save_step(job, done=job.done + len(known.fresh) + len(known.missed))


def _mark(job: Job, batch: list[str], result: Enrichment) -> Counter[str]:
    """Writes into the items what became of a batch; returns how many came to which state."""
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
    # Of a long list PostgreSQL cannot tell that no ISBN in it is empty, as the index by ISBN wants.
    pending = job.items.filter(state=_STATE.PENDING, isbn13__in=isbns).exclude(isbn13="")
    return pending.update(state=state, reason=reason)
