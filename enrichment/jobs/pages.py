"""A job of listings (the books of an author, or new releases): each step fetches one page."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from enrichment import selectors
from enrichment.gateway.listings import PAGE_SIZE, Listing, books_by_author
from enrichment.jobs.batches import Row
from enrichment.jobs.claims import held, save_step
from enrichment.models import Job
from enrichment.selectors.jobs import MAX_FAILURES
from enrichment.services.bibliographies import MAX_PAGES, Bibliography, conclude
from enrichment.services.enrich import FailedIsbn
from enrichment.services.listings import Position, Progress, calls_needed, fetch_next, position_at
from enrichment.services.releases import NewReleases, Wanted, parse_month
from quota.limits import LIMITS
from quota.spending import spending


@dataclass(frozen=True)
class PagePlan:
    """What the job asks ISBNdb for."""

    listings: Sequence[Listing]
    max_pages: int  # of each listing
    skip_existing: bool
    start: Position
    releases: Wanted | None = None


def plan(job: Job) -> list[Row]:
    """Sets `total` to the maximum number of pages. There are no items."""
    job.total = _max_pages_left(job)
    return []


def insert(rows: list[Row]) -> None:
    """Does nothing: there are no items."""


def step(job: Job) -> bool:
    """Fetches and stores one page with one request; False when no page is left.

    Raises what `fetch_next` raises, and ClaimLost. A runner that dies after storing the page and before recording
    leaves the page to be fetched again.
    """
    progress = _progress(job)
    if not _max_pages_left(job) or _is_known_to_be_missing(job):
        return False
    page_plan = _page_plan(job)
    with spending(consumer=job.consumer.slug, operation=job.kind, calls=1, source=job.source) as spender:
        fetch_next(
            page_plan.listings, progress, spender, max_pages=page_plan.max_pages, skip_existing=page_plan.skip_existing
        )
    left = calls_needed(page_plan.listings, progress, max_pages=page_plan.max_pages)
    del progress.errors[MAX_FAILURES:]
    with held(job):
        done = progress.pages_fetched
        save_step(job, progress=asdict(progress), done=done, total=done + left)
    return True


def fail_rest(job: Job) -> None:
    """Does nothing: a retry continues after the last page."""


def reset_failed(job: Job) -> bool:
    """Changes nothing: the next step continues after the last page. Returns whether a page is left to fetch."""
    return job.state != Job.State.SUCCEEDED and _max_pages_left(job) > 0


def result(job: Job) -> dict[str, Any]:
    """What the API answers for the same work without a job, but without `errors`, which are in `progress`.

    Also remembers an author whom ISBNdb does not know.
    """
    page_plan, progress = _page_plan(job), _progress(job)
    if page_plan.releases is None:
        figures = _bibliography(job, progress).as_dict()
    else:
        months = {name: f"{getattr(page_plan.releases, name):%Y-%m}" for name in ("start_month", "end_month")}
        figures = months | _new_releases(job, page_plan.releases, progress).as_dict()
    return {name: value for name, value in figures.items() if name != "errors"}


def _bibliography(job: Job, progress: Progress) -> Bibliography:
    bibliography = Bibliography(author=job.wanted["author_name"], progress=progress)
    if job.stopped_reason:
        bibliography.stopped_reason = job.stopped_reason
    elif job.progress:
        conclude(bibliography)
    else:  # ISBNdb recently did not know the author, so the job has not asked
        bibliography.complete = True
    return bibliography


def _new_releases(job: Job, wanted: Wanted, progress: Progress) -> NewReleases:
    quota_exhausted = job.stopped_reason in LIMITS
    return NewReleases(wanted, progress, job.stopped_reason or None, quota_exhausted=quota_exhausted)


def _is_known_to_be_missing(job: Job) -> bool:
    """Whether the job is at its start and about an author whom ISBNdb recently did not know."""
    if job.kind != Job.Kind.BIBLIOGRAPHY or job.progress or job.wanted.get("start_page", 1) > 1:
        return False
    return job.wanted.get("skip_existing", True) and selectors.is_missed_author(job.wanted["author_name"])


def _max_pages_left(job: Job) -> int:
    page_plan = _page_plan(job)
    return calls_needed(page_plan.listings, _progress(job), max_pages=page_plan.max_pages)


def _page_plan(job: Job) -> PagePlan:
    wanted = job.wanted
    if job.kind == Job.Kind.BIBLIOGRAPHY:
        before = wanted.get("start_page", 1) - 1
        max_pages = before + wanted.get("max_pages", MAX_PAGES)
        listings = [books_by_author(wanted["author_name"])]
        start = position_at(before * PAGE_SIZE)
        return PagePlan(listings, max_pages, wanted.get("skip_existing", True), start)
    months = {name: parse_month(wanted["wanted"][name][:7]) for name in ("start_month", "end_month")}
    releases = Wanted(**wanted["wanted"] | months | {"subjects": tuple(wanted["wanted"]["subjects"])})
    start = Position(**wanted.get("position") or {})
    return PagePlan(releases.listings, releases.max_pages_per_month, releases.skip_existing, start, releases)


def _progress(job: Job) -> Progress:
    """The progress that `step` has saved."""
    saved = job.progress
    if not saved:
        return Progress(_page_plan(job).start)
    parts = {
        "position": Position(**saved["position"]),
        "cut": {int(listing): offset for listing, offset in saved["cut"].items()},  # JSON has only strings as keys
        "errors": [FailedIsbn(**error) for error in saved["errors"]],
    }
    return Progress(**saved | parts)
