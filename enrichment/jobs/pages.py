"""A job of listings (the books of an author, or new releases): each step fetches one page."""

from typing import Any

from enrichment import selectors
from enrichment.gateway.asking import ask_each
from enrichment.jobs.batches import Row
from enrichment.jobs.claims import held, save_step
from enrichment.models import Job
from enrichment.selectors.jobs import MAX_FAILURES
from enrichment.services.bibliographies import MAX_PAGES, Bibliography, conclude, walk_of
from enrichment.services.listings import Progress, Walk
from enrichment.services.releases import NewReleases, Wanted, parse_month
from quota.limits import LIMITS
from quota.spending import spending


def plan(job: Job) -> list[Row]:
    """Sets `total` to the maximum number of pages. There are no items."""
    job.total = _walk(job).calls_needed
    return []


def insert(rows: list[Row]) -> None:
    """Does nothing: there are no items."""


def step(job: Job) -> bool:
    """Fetches and stores one page with one request; False when no page is left.

    Raises what `ask` raises, and ClaimLost. A runner that dies after storing the page and before recording leaves the
    page to be fetched again.
    """
    walk = _walk(job)
    if walk.is_complete or _is_known_to_be_missing(job):
        return False
    with spending(consumer=job.consumer.slug, operation=job.kind, calls=1, source=job.source) as spender:
        questions = iter([walk.next_question(spender)])
        try:
            for exchanged in ask_each(lambda: next(questions, None)):
                walk.take(exchanged)
        finally:
            walk.progress.api_calls += spender.calls_spent
    if walk.failure:
        raise walk.failure
    del walk.progress.errors[MAX_FAILURES:]
    with held(job):
        done = walk.progress.pages_fetched
        saved = {**walk.progress.as_json(), "place": walk.place}
        save_step(job, progress=saved, done=done, total=done + walk.calls_needed)
    return True


def fail_rest(job: Job) -> None:
    """Does nothing: a retry continues after the last page."""


def reset_failed(job: Job) -> bool:
    """Changes nothing: the next step continues after the last page. Returns whether a page is left to fetch."""
    return job.state != Job.State.SUCCEEDED and not _walk(job).is_complete


def result(job: Job) -> dict[str, Any]:
    """What the API answers for the same work without a job, but without `errors`, which are in `progress`.

    Also remembers an author whom ISBNdb does not know.
    """
    releases = _releases(job)
    if releases is None:
        figures = _bibliography(job).as_dict()
    else:
        months = {name: f"{getattr(releases, name):%Y-%m}" for name in ("start_month", "end_month")}
        exhausted = job.stopped_reason in LIMITS
        found = NewReleases(releases, _walk(job), job.stopped_reason or None, quota_exhausted=exhausted)
        figures = months | found.as_dict()
    return {name: value for name, value in figures.items() if name != "errors"}


def _bibliography(job: Job) -> Bibliography:
    bibliography = Bibliography(author=job.wanted["author_name"], walk=_walk(job))
    if job.stopped_reason:
        bibliography.stopped_reason = job.stopped_reason
    elif job.progress:
        conclude(bibliography)
    else:  # ISBNdb recently did not know the author, so the job has not asked
        bibliography.complete = True
    return bibliography


def _is_known_to_be_missing(job: Job) -> bool:
    """Whether the job is at its start and about an author whom ISBNdb recently did not know."""
    if job.kind != Job.Kind.BIBLIOGRAPHY or job.progress or job.wanted.get("start_page", 1) > 1:
        return False
    return job.wanted.get("skip_existing", True) and selectors.is_missed_author(job.wanted["author_name"])


def _walk(job: Job) -> Walk:
    """The walk from where the last step has ended."""
    wanted, figures = job.wanted, {**job.progress}
    place = figures.pop("place", None)
    progress = Progress.from_json(figures) if figures else None
    releases = _releases(job)
    if releases is not None:
        return releases.walk(place or wanted.get("place"), progress)
    return walk_of(
        wanted["author_name"],
        max_pages=wanted.get("max_pages", MAX_PAGES),
        start_page=wanted.get("start_page", 1),
        skip_existing=wanted.get("skip_existing", True),
        place=place,
        progress=progress,
    )


def _releases(job: Job) -> Wanted | None:
    """What a job of new releases wants; None for a bibliography."""
    if job.kind == Job.Kind.BIBLIOGRAPHY:
        return None
    wanted = job.wanted["wanted"]
    months = {name: parse_month(wanted[name][:7]) for name in ("start_month", "end_month")}
    return Wanted(**wanted | months | {"subjects": tuple(wanted["subjects"])})
