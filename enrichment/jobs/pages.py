"""A job of listings, an author's books or new releases: a page a step."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from enrichment import selectors
from enrichment.gateway.listings import PAGE_SIZE, Listing, books_by_author
from enrichment.jobs.batches import Row
from enrichment.jobs.claims import held, save_step
from enrichment.models import Job
from enrichment.services.bibliographies import MOST_PAGES, Bibliography, conclude
from enrichment.services.enrich import FailedIsbn
from enrichment.services.listings import Position, Progress, calls_needed, fetch_next, position_at
from enrichment.services.releases import NewReleases, Wanted, parse_month
from quota.exceptions import QuotaRefused
from quota.spending import spending

MOST_ERRORS = 1000
"""Errors of single books that are kept; all are counted."""


@dataclass(frozen=True)
class _Work:
    listings: Sequence[Listing]
    most_pages: int  # of each
    skip_existing: bool
    start: Position
    releases: Wanted | None = None


def plan(job: Job) -> list[Row]:
    """Says in `total` how many pages there are at the most; there are no items."""
    job.total = _most_pages_left(job)
    return []


def step(job: Job) -> bool:
    """Fetches and stores one page, with one call; False when nothing was left to be asked for.

    Raises what `fetch_next` raises, and ClaimLost. Whoever dies between storing the page and writing here leaves it to
    be asked for once more.
    """
    progress = _progress(job)
    if not _most_pages_left(job) or _is_known_to_be_missing(job):
        return False
    work = _work(job)
    with spending(consumer=job.consumer.slug, operation=job.kind, calls=1, source=job.source) as spender:
        fetch_next(*(work.listings, progress, spender), max_pages=work.most_pages, skip_existing=work.skip_existing)
    left = calls_needed(work.listings, progress, max_pages=work.most_pages)
    del progress.errors[MOST_ERRORS:]
    with held(job):
        done = progress.pages_fetched
        save_step(job, progress=asdict(progress), done=done, total=done + left)
    return True


def give_up_rest(job: Job) -> None:
    """A listing goes on from its last page, whenever."""


def try_again(job: Job) -> bool:
    """Whether a page is left to be asked for."""
    return job.state != Job.State.SUCCEEDED and _most_pages_left(job) > 0


def result(job: Job) -> dict[str, Any]:
    """What came of it, in the terms of the answer that the same work gives when it is not a job, but for the errors.

    Remembers an author whom ISBNdb does not know.
    """
    work, progress = _work(job), _progress(job)
    figures = ("books_found", "already_existed", "enriched", "failed", "pages_fetched")
    counts = {name: getattr(progress, name) for name in figures}
    if work.releases is None:
        return _bibliography(job, progress) | counts
    releases = NewReleases(work.releases, progress)
    exhausted = job.stopped_reason in QuotaRefused.EXPLANATIONS
    return counts | {
        "start_month": f"{work.releases.start_month:%Y-%m}",
        "end_month": f"{work.releases.end_month:%Y-%m}",
        "complete": releases.complete,
        "stopped_reason": job.stopped_reason or None,
        "quota_exhausted": exhausted,
        "months_processed": [f"{month:%Y-%m}" for month in releases.months_processed],
        "months_cut": [f"{month:%Y-%m}" for month in releases.months_cut],
        "resume": releases.resume,
    }


def _bibliography(job: Job, progress: Progress) -> dict[str, Any]:
    bibliography = Bibliography(author=job.wanted["author_name"], progress=progress)
    if job.stopped_reason:
        bibliography.stopped_reason = job.stopped_reason
    elif job.progress:
        conclude(bibliography)
    else:  # known to be missing, and not asked for
        bibliography.complete = True
    return {
        "author": bibliography.author,
        "complete": bibliography.complete,
        "stopped_reason": bibliography.stopped_reason,
        "next_page": bibliography.next_page,
    }


def _is_known_to_be_missing(job: Job) -> bool:
    """Whether it is an author, not yet asked for, whom ISBNdb did not know lately."""
    if job.kind != Job.Kind.BIBLIOGRAPHY or job.progress or job.wanted.get("start_page", 1) > 1:
        return False
    return job.wanted.get("skip_existing", True) and selectors.is_missed_author(job.wanted["author_name"])


def _most_pages_left(job: Job) -> int:
    work = _work(job)
    return calls_needed(work.listings, _progress(job), max_pages=work.most_pages)


def _work(job: Job) -> _Work:
    wanted = job.wanted
    if job.kind == Job.Kind.BIBLIOGRAPHY:
        before = wanted.get("start_page", 1) - 1
        most_pages = before + wanted.get("max_pages", MOST_PAGES)
        listings = [books_by_author(wanted["author_name"])]
        start = position_at(before * PAGE_SIZE)
        return _Work(listings, most_pages, wanted.get("skip_existing", True), start)
    months = {name: parse_month(wanted["wanted"][name][:7]) for name in ("start_month", "end_month")}
    releases = Wanted(**wanted["wanted"] | months | {"subjects": tuple(wanted["wanted"]["subjects"])})
    start = Position(**wanted.get("position") or {})
    return _Work(releases.listings, releases.max_pages_per_month, releases.skip_existing, start, releases)


def _progress(job: Job) -> Progress:
    """As `step` has saved it."""
    saved = job.progress
    if not saved:
        return Progress(_work(job).start)
    parts = {
        "position": Position(**saved["position"]),
        "cut": {int(listing): offset for listing, offset in saved["cut"].items()},  # JSON's names are texts
        "errors": [FailedIsbn(**error) for error in saved["errors"]],
    }
    return Progress(**saved | parts)
