"""A job of new releases: the books of some months and subjects. Its units are pages."""

from typing import Any

from enrichment.jobs.listing_run import ListingRun, fail_rest, from_saved, insert, reset_failed
from enrichment.jobs.registry import Run
from enrichment.models import Job
from enrichment.services.listings import Walk
from enrichment.services.releases import NewReleases, Wanted, parse_month
from quota.limits import LIMITS

__all__ = [
    "OPERATION",
    "UNIT",
    "UNIT_IS_AN_OPERATION",
    "begin",
    "fail_rest",
    "insert",
    "is_left",
    "plan",
    "reset_failed",
    "result",
]

UNIT = "page"
OPERATION = "new-releases"
UNIT_IS_AN_OPERATION = False


def plan(job: Job) -> list[Any]:
    job.total = _walk(job).calls_needed
    return []


def begin(job: Job) -> Run:
    return ListingRun(_walk(job))


def is_left(job: Job) -> bool:
    return job.state != Job.State.SUCCEEDED and not _walk(job).is_complete


def result(job: Job) -> dict[str, Any]:
    """What the API answers for the same work without a job, but without `errors`, which are in `progress`."""
    wanted = _wanted(job)
    months = {name: f"{getattr(wanted, name):%Y-%m}" for name in ("start_month", "end_month")}
    exhausted = job.stopped_reason in LIMITS
    found = NewReleases(wanted, _walk(job), job.consumer.slug, job.stopped_reason or None, quota_exhausted=exhausted)
    return {name: value for name, value in (months | found.as_dict()).items() if name != "errors"}


def _walk(job: Job) -> Walk:
    """The walk from where the last checkpoint is, or the resume token."""
    return _wanted(job).walk(**{"place": job.wanted.get("place")} | from_saved(job.progress))


def _wanted(job: Job) -> Wanted:
    wanted = job.wanted["wanted"]
    months = {name: parse_month(wanted[name][:7]) for name in ("start_month", "end_month")}
    return Wanted(**wanted | months | {"subjects": tuple(wanted["subjects"])})
