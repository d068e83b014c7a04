"""What is to be known of jobs."""

import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any

from django.conf import settings
from django.db.models import Count, QuerySet

from enrichment.models import Job, JobItem
from quota.models import Consumer
from quota.selectors.usage import forecast

MOST_FAILURES = 1000


@dataclass(frozen=True)
class JobFailures:
    """What of a job failed or was no ISBN: how many for each reason, and the first MOST_FAILURES of them."""

    by_reason: dict[str, int]
    """Of a job of pages, among the first alone: no more are kept."""
    first: list[Any]
    """With `isbn`, `state` and `reason`."""


def jobs_of(consumer: Consumer) -> QuerySet[Job]:
    """The consumer's own jobs."""
    return Job.objects.filter(consumer=consumer).select_related("consumer")


def get_job(job_id: uuid.UUID, *, consumer: Consumer) -> Job | None:
    """The job, if it is the consumer's own."""
    return jobs_of(consumer).filter(pk=job_id).first()


def job_calls_left(job: Job) -> int:
    """The most calls that the rest of the job takes, with what is known by now; retries not included."""
    left = job.total - job.done
    return ceil(left / settings.ISBNDB_BATCH_SIZE) if job.kind == Job.Kind.BATCH_DIRECT else left


def job_eta(job: Job) -> datetime | None:
    """When the job would end if nobody else spent any calls; None when it has ended, or would fail before.

    One that does not wait for the next day's quota fails when today's is less than it takes.

    Raises QuotaUnavailable.
    """
    if job.ended_at is not None:
        return None
    calls = job_calls_left(job)
    expected = forecast(calls, consumer=job.consumer.slug)
    if job.on_exhausted == Job.OnExhausted.FAIL and expected.today < calls:
        return None
    finish_at = expected.finish_at
    if finish_at and job.state == Job.State.WAITING and job.resume_at:
        return max(finish_at, job.resume_at)
    return finish_at


def item_counts(job: Job) -> dict[str, int]:
    """How many ISBNs of the job are in each state that any is in."""
    return dict(job.items.order_by().values_list("state").annotate(Count("position")))


def job_failures(job: Job) -> JobFailures:
    """Of a job of ISBNs: the values, and why. Of other kinds: the books that could not be stored."""
    if job.kind != Job.Kind.BATCH_DIRECT:
        errors = job.progress.get("errors", [])
        first = [{"isbn": error["isbn"], "state": "failed", "reason": error["error"]} for error in errors]
        return JobFailures(dict(Counter(error["error"] for error in errors)), first)
    items = job.items.filter(state__in=[JobItem.State.FAILED, JobItem.State.INVALID])
    counts = items.order_by("reason").values_list("reason").annotate(Count("position"))
    return JobFailures(dict(counts), list(items.order_by("position")[:MOST_FAILURES]))


def jobs_under_way(limit: int) -> list[Job]:
    """The jobs that have not ended, the oldest first, and no more than `limit`."""
    return list(Job.objects.filter(ended_at=None).select_related("consumer").order_by("created_at")[:limit])
