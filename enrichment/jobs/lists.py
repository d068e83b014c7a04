"""Lists of ISBNs that staff give: kept until they are made a job, or forgotten."""

from collections.abc import Sequence
from datetime import date

from django.contrib.auth.models import User

from enrichment.jobs.lifecycle import create_job
from enrichment.models import IsbnList, Job
from enrichment.models.jobs import STAFF
from quota.exceptions import ConsumerUnknown
from quota.models import Consumer


def keep_list(values: Sequence[str], *, made_by: User, refresh: bool = False, purpose: str = "") -> IsbnList:
    """Keeps the values as they were given, without the NULs that PostgreSQL cannot store."""
    return IsbnList.objects.create(
        values=[value.replace("\0", "") for value in values], made_by=made_by, refresh=refresh, purpose=purpose
    )


def run_list(isbn_list: IsbnList, *, on_exhausted: Job.OnExhausted) -> Job:
    """Makes the list a job, for which the consumer STAFF pays; a list that is one already gives that job again.

    Raises ConsumerUnknown (there is no such consumer), and what `create_job` raises.
    """
    payer = Consumer.objects.filter(slug=STAFF).first()
    if payer is None:
        raise ConsumerUnknown(f"There is no consumer {STAFF!r}, which pays for this.")
    return create_job(
        consumer=payer,
        kind=Job.Kind.BATCH_DIRECT,
        wanted={"isbns": isbn_list.values, "refresh": isbn_list.refresh, "source": isbn_list.purpose},
        on_exhausted=on_exhausted,
        idempotency_key=key_of(isbn_list),
    )


def prune_lists(*, before: date) -> int:
    """Forgets the lists that were kept on a day before; returns how many. Jobs made of them stay."""
    pruned, _ = IsbnList.objects.filter(created_at__date__lt=before).delete()
    return pruned


def key_of(isbn_list: IsbnList) -> str:
    """The idempotency key of the job that a list becomes."""
    return f"list:{isbn_list.pk}"
