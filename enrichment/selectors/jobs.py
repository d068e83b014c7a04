"""Reads jobs: their progress, cost, expected end and failures."""

import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, QuerySet, Sum

from enrichment.exceptions import ItemsDeleted
from enrichment.isbn.parsing import Reason
from enrichment.isbn.suggestions import suggest
from enrichment.models import Edition, Job, JobAuthor, JobItem
from quota.models import Consumer
from quota.selectors.forecast import forecast
from quota.selectors.prices import cost_of_isbns, requests_for_isbns

MAX_PAGES = 10
"""Maximum number of pages of 1,000 books for each author, unless somebody asks for fewer: ISBNdb gives no more."""

MAX_FAILURES = 1000
"""Maximum number of single failures of a job that are shown and, in a job of pages, stored. All are counted."""

CAME = (JobItem.State.ENRICHED, JobItem.State.ALREADY_FRESH)
"""The states of an ISBN whose book is stored."""


@dataclass(frozen=True)
class JobFailures:
    """The failed and invalid values of a job: the number for each reason, and the first MAX_FAILURES of them."""

    by_reason: dict[str, int]
    """A job of pages counts only `first`, because it stores no more."""
    first: list[Any]
    """Each has `isbn`, `state` and `reason`."""


def jobs_of(consumer: Consumer) -> QuerySet[Job]:
    """The jobs of the consumer."""
    return Job.objects.filter(consumer=consumer).select_related("consumer")


def get_job(job_id: uuid.UUID, *, consumer: Consumer) -> Job | None:
    """The job, or None if it is not a job of the consumer."""
    return jobs_of(consumer).filter(pk=job_id).first()


def job_calls_left(job: Job) -> int:
    """Maximum number of calls for the rest of the job, as far as it is known now, without retries.

    Raises QuotaUnavailable.
    """
    left = job.total - job.done
    if job.kind == Job.Kind.AUTHORS:
        fetched = job.authors.filter(state=JobAuthor.State.PENDING).aggregate(pages=Sum("pages", default=0))["pages"]
        return max(left, left * max_pages_of(job) - int(fetched))
    return cost_of_isbns(left) if job.kind == Job.Kind.BATCH_DIRECT else left


def max_pages_of(job: Job) -> int:
    """Maximum number of pages for each author of the job."""
    return int(job.wanted.get("max_pages", MAX_PAGES))


def skips_existing(job: Job) -> bool:
    """Whether a job of authors leaves alone what is fresh, or was recently unknown."""
    return bool(job.wanted.get("skip_existing", True))


def job_eta(job: Job) -> datetime | None:
    """When the job will end if no other consumer spends calls; None when it has ended, is paused or will fail.

    A job that does not wait for the next day's quota fails when today's quota is too small for it.

    Raises QuotaUnavailable.
    """
    if job.ended_at is not None or job.state == Job.State.PAUSED:
        return None
    calls, left = job_calls_left(job), job.total - job.done
    requests = requests_for_isbns(left) if job.kind == Job.Kind.BATCH_DIRECT else calls
    expected = forecast(calls, consumer=job.consumer.slug, requests=requests)
    if job.on_exhausted == Job.OnExhausted.FAIL and expected.today < calls:
        return None
    finish_at = expected.finish_at
    if finish_at and job.state == Job.State.WAITING and job.resume_at:
        return max(finish_at, job.resume_at)
    return finish_at


def item_counts(job: Job) -> dict[str, int]:
    """The number of ISBNs of the job in each state. States without an ISBN are left out."""
    if job.items_deleted_at:
        return dict(job.item_figures["states"])
    return dict(job.items.order_by().values_list("state").annotate(Count("position")))


def author_figures(job: Job) -> dict[str, Any]:
    """The number of authors of the job in each state, and the sums of their figures.

    found = new + changed + unchanged + already_fresh + failed.
    """
    if job.items_deleted_at:
        return dict(job.item_figures["authors"])
    states = dict(job.authors.order_by().values_list("state").annotate(Count("position")))
    sums = job.authors.aggregate(
        pages_fetched=Sum("pages", default=0),
        found=Sum("found", default=0),
        new=Sum("new", default=0),
        changed=Sum("changed", default=0),
        unchanged=Sum("unchanged", default=0),
        already_fresh=Sum("already_fresh", default=0),
        failed=Sum("failed", default=0),
    )
    counted = {f"authors_{state.value}": states.get(state.value, 0) for state in JobAuthor.State}
    return {"authors": job.total, **counted, **sums}


def failure_reasons(job: Job) -> dict[str, int]:
    """How many ISBNs, invalid values or authors failed for each reason.

    A job of pages counts the books that could not be stored, of those that it has stored (MAX_FAILURES).
    """
    if job.items_deleted_at:
        return dict(job.item_figures["reasons"])
    failed = _failed_items(job)
    if failed is None:
        return dict(Counter(error["error"] for error in job.progress.get("errors", [])))
    return dict(failed.order_by("reason").values_list("reason").annotate(Count("position")))


def job_failures(job: Job) -> JobFailures:
    """What failed and why: ISBNs and invalid values, authors or, in a job of pages, books that could not be stored."""
    first: list[Any] = []
    if not job.items_deleted_at:
        failed = _failed_items(job)
        if failed is None:
            errors = job.progress.get("errors", [])
            first = [{"isbn": error["isbn"], "state": "failed", "reason": error["error"]} for error in errors]
        elif job.kind == Job.Kind.AUTHORS:
            rows = failed.order_by("position").values_list("name", "state", "reason")[:MAX_FAILURES]
            first = [{"isbn": name, "state": state, "reason": reason} for name, state, reason in rows]
        else:
            first = list(failed.order_by("position")[:MAX_FAILURES])
    return JobFailures(failure_reasons(job), first)


def _failed_items(job: Job) -> QuerySet[Any] | None:
    """The items that failed or were invalid; None for a job of pages, which has no items."""
    if job.kind == Job.Kind.AUTHORS:
        return job.authors.filter(state=JobAuthor.State.FAILED)
    if job.kind == Job.Kind.BATCH_DIRECT:
        return job.items.filter(state__in=[JobItem.State.FAILED, JobItem.State.INVALID])
    return None


def books_of(job: Job) -> QuerySet[Edition]:
    """The books that a job of ISBNs has brought, and those that were fresh when it ran."""
    came = job.items.filter(state__in=CAME)
    return Edition.objects.filter(pk__in=came.order_by().values("isbn13"))


def suggestion_of(item: JobItem) -> str | None:
    """What was probably meant by an invalid value; None for an ISBN, and when nothing is likely."""
    return suggest(item.value, Reason(item.reason)) if item.state == JobItem.State.INVALID else None


def check_items(job: Job) -> None:
    """Raises ItemsDeleted when the items of the job are gone."""
    if job.items_deleted_at:
        raise ItemsDeleted(
            f"The items of this job were deleted on {job.items_deleted_at:%Y-%m-%d}, because it has ended long ago "
            "(JOB_ITEMS_KEEP_DAYS). Its figures are kept."
        )


def jobs_under_way(limit: int) -> list[Job]:
    """The jobs that have not ended, oldest first, at most `limit`."""
    return list(Job.objects.filter(ended_at=None).select_related("consumer").order_by("created_at")[:limit])


def find_list(consumer: Consumer, list_key: str) -> Job | None:
    """The latest job of the consumer for that list."""
    return Job.objects.filter(consumer=consumer, list_key=list_key).order_by("-created_at").first()


def last_stopped(consumer: Consumer) -> Job | None:
    """The job of authors of the consumer that stopped last, neither done nor cancelled; otherwise one that runs."""
    done = (Job.State.SUCCEEDED, Job.State.CANCELLED)
    lists = Job.objects.filter(consumer=consumer, kind=Job.Kind.AUTHORS).exclude(state__in=done)
    return lists.exclude(state=Job.State.RUNNING).order_by("-claimed_at").first() or lists.first()
