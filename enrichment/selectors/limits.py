"""What a consumer has of the things that settings limit: jobs, their items, queued ISBNs."""

from django.conf import settings
from django.db.models import Count, QuerySet, Sum

from enrichment.exceptions import QueueFull, TooManyItems, TooManyJobs
from enrichment.models import Asker, Job
from quota.models import Consumer
from quota.selectors.consumer_limits import ConsumerLimit


def limits_of(consumer: Consumer) -> list[ConsumerLimit]:
    """What the consumer has, and may have at most."""
    jobs, items = jobs_and_items(Job.objects.filter(consumer=consumer))
    queued = Asker.objects.filter(consumer=consumer).count()
    return [
        ConsumerLimit(TooManyJobs.limit, "jobs that have not ended", settings.MAX_JOBS_PER_CONSUMER, jobs),
        ConsumerLimit(TooManyItems.limit, "items in these jobs", settings.MAX_JOB_ITEMS_PER_CONSUMER, items),
        ConsumerLimit(QueueFull.limit, "ISBNs in the queue", settings.MAX_QUEUED_PER_CONSUMER, queued),
    ]


def jobs_and_items(jobs: QuerySet[Job]) -> tuple[int, int]:
    """How many of the jobs have not ended, and how many items these have together."""
    figures = jobs.filter(ended_at=None).aggregate(jobs=Count("pk"), items=Sum("item_count", default=0))
    return figures["jobs"], figures["items"]
