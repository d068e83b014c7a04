"""A job of the books of one author. Its units are pages."""

from typing import Any

from enrichment.jobs.listing_run import ListingRun, fail_rest, from_saved, insert, reset_failed
from enrichment.jobs.registry import Run
from enrichment.models import Job
from enrichment.selectors.jobs import max_pages_of
from enrichment.services.bibliographies import Bibliography, conclude, is_known, walk_of
from enrichment.services.listings import Walk

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
OPERATION = "bibliography"
UNIT_IS_AN_OPERATION = False


def plan(job: Job) -> list[Any]:
    job.total = _walk(job).calls_needed
    return []


class BibliographyRun(ListingRun):
    """It asks for nothing when ISBNdb has listed the author lately, or did not know it (bibliographies.py)."""

    def __init__(self, job: Job) -> None:
        super().__init__(_walk(job))
        self.job = job

    def prepare(self) -> bool:
        return super().prepare() and (bool(self.job.progress) or not _is_known(self.job, _result_of(self.job)))


def begin(job: Job) -> Run:
    return BibliographyRun(job)


def is_left(job: Job) -> bool:
    return job.state != Job.State.SUCCEEDED and not _walk(job).is_complete


def result(job: Job) -> dict[str, Any]:
    """What the API answers for the same work without a job, without `errors`. Remembers an author ISBNdb lacks."""
    found = _result_of(job)
    if job.stopped_reason:
        found.stopped_reason = job.stopped_reason
    elif job.progress:
        conclude(found, start_page=_start_page(job))
    elif not _is_known(job, found):  # the job has not asked, because it was known when it began
        found.complete = True
    return {name: value for name, value in found.as_dict().items() if name != "errors"}


def _result_of(job: Job) -> Bibliography:
    return Bibliography(author=job.wanted["author_name"], walk=_walk(job))


def _is_known(job: Job, found: Bibliography) -> bool:
    again = job.wanted.get("refresh", False) or not job.wanted.get("skip_existing", True)
    return is_known(found, max_pages=max_pages_of(job), start_page=_start_page(job), again=again)


def _start_page(job: Job) -> int:
    return int(job.wanted.get("start_page", 1))


def _walk(job: Job) -> Walk:
    """The walk from where the last checkpoint is."""
    wanted = job.wanted
    return walk_of(
        wanted["author_name"],
        max_pages=max_pages_of(job),
        start_page=_start_page(job),
        skip_existing=wanted.get("skip_existing", True),
        **from_saved(job.progress),
    )
