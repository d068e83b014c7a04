"""Lists of ISBNs that staff enter in the admin, stored until somebody runs them as a job or they are pruned."""

from collections.abc import Sequence
from datetime import date

from django.contrib.auth.models import User

from enrichment.isbn.reading import GivenIsbns, read
from enrichment.jobs.lifecycle import create_job, payer_of
from enrichment.models import IsbnList, Job
from enrichment.models.jobs import STAFF


def keep_list(
    values: Sequence[str],
    *,
    made_by: User,
    refresh: bool = False,
    purpose: str = "",
    is_spreadsheet: bool = False,
    notes: Sequence[str] = (),
) -> IsbnList:
    """Stores the values as given, but without NULs, which PostgreSQL cannot store."""
    return IsbnList.objects.create(
        values=[value.replace("\0", "") for value in values],
        made_by=made_by,
        refresh=refresh,
        purpose=purpose,
        is_spreadsheet=is_spreadsheet,
        notes=[note.replace("\0", "") for note in notes],
    )


def read_list(isbn_list: IsbnList) -> GivenIsbns:
    """What is in the list."""
    return read(isbn_list.values, is_spreadsheet=isbn_list.is_spreadsheet)


def run_list(isbn_list: IsbnList, *, on_exhausted: Job.OnExhausted) -> Job:
    """Turns the list into a job that the consumer STAFF pays for. The same list always gives the same job.

    Raises ConsumerUnknown (STAFF does not exist), and what `create_job` raises.
    """
    return create_job(
        consumer=payer_of(STAFF),
        kind=Job.Kind.BATCH_DIRECT,
        wanted={
            "isbns": isbn_list.values,
            "spreadsheet": isbn_list.is_spreadsheet,
            "refresh": isbn_list.refresh,
            "source": isbn_list.purpose,
            "notes": isbn_list.notes,
        },
        on_exhausted=on_exhausted,
        idempotency_key=key_of(isbn_list),
    )


def prune_lists(*, before: date) -> int:
    """Deletes the lists that were stored before that day; returns how many. Their jobs stay."""
    pruned, _ = IsbnList.objects.filter(created_at__date__lt=before).delete()
    return pruned


def key_of(isbn_list: IsbnList) -> str:
    """The idempotency key of the job of a list."""
    return f"list:{isbn_list.pk}"
