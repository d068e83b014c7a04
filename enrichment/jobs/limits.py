"""How many jobs, and items in them, a consumer can have at once. Ended jobs do not count."""

from django.conf import settings

from enrichment.exceptions import TooManyItems, TooManyJobs
from enrichment.models import Job
from enrichment.selectors.limits import jobs_and_items
from quota.models import Consumer


def check_limits(job: Job) -> None:
    """Whether its consumer can have this job beside its others. Raises TooManyJobs and TooManyItems.

    Without a lock, so that a request that is refused costs little. Two requests at once can both pass.
    """
    jobs, items = jobs_and_items(Job.objects.filter(consumer=job.consumer_id).exclude(pk=job.pk))
    if jobs + 1 > settings.MAX_JOBS_PER_CONSUMER:
        raise TooManyJobs(allowed=settings.MAX_JOBS_PER_CONSUMER, used=jobs, asked=1)
    if items + job.item_count > settings.MAX_JOB_ITEMS_PER_CONSUMER:
        raise TooManyItems(allowed=settings.MAX_JOB_ITEMS_PER_CONSUMER, used=items, asked=job.item_count)


def hold_limits(job: Job) -> None:
    """The same under a lock of the consumer's row, until the end of the transaction in which the job begins.

    Call it last in the transaction: other requests of the consumer wait for the lock. Raises TooManyJobs and
    TooManyItems.
    """
    Consumer.objects.select_for_update(no_key=True).get(pk=job.consumer_id)
    check_limits(job)
