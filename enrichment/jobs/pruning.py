"""Deletes the items of jobs that ended long ago and, later, the jobs."""

from datetime import date

from django.db import transaction
from django.db.models import Exists, OuterRef

from enrichment.models import Job, JobAuthor, JobItem
from enrichment.selectors.jobs import author_figures, failure_reasons, item_counts
from quota.database import QuotaNow

_HAS_ITEMS = Exists(JobItem.objects.filter(job=OuterRef("pk"))) | Exists(JobAuthor.objects.filter(job=OuterRef("pk")))


def prune_items(*, before: date) -> int:
    """Deletes the items of the jobs that ended before that day, one job per transaction; returns the number of jobs.

    The jobs keep their results, and the figures of their items (`item_figures`).
    """
    old = Job.objects.filter(_HAS_ITEMS, ended_at__date__lt=before, items_deleted_at=None)
    pruned = 0
    for job_id in list(old.values_list("pk", flat=True)):
        with transaction.atomic(durable=True):
            # Somebody can retry the job at this moment.
            if job := old.select_for_update(no_key=True).filter(pk=job_id).first():
                job.item_figures = {
                    "states": item_counts(job),
                    "reasons": failure_reasons(job),
                    "authors": author_figures(job),
                }
                job.items_deleted_at = QuotaNow()
                job.save(update_fields=["items_deleted_at", "item_figures"])
                job.items.all().delete()
                job.authors.all().delete()
                pruned += 1
    return pruned


def prune_jobs(*, before: date) -> int:
    """Deletes the jobs that ended before that day, with their items, one per transaction; returns how many."""
    old = Job.objects.filter(ended_at__date__lt=before)
    pruned = 0
    for job_id in list(old.values_list("pk", flat=True)):
        with transaction.atomic(durable=True):
            # Somebody can retry the job at this moment.
            if old.select_for_update().filter(pk=job_id).exists():
                Job.objects.filter(pk=job_id).delete()
                pruned += 1
    return pruned
