"""Lists that staff enter in the admin, stored until somebody runs them as a job or they are pruned."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from django.contrib.auth.models import User

from enrichment.authors.names import Names, read_names
from enrichment.isbn.reading import GivenIsbns, read
from enrichment.jobs.kinds.authors import calls_for
from enrichment.jobs.lifecycle import create_job, payer_of
from enrichment.models import AuthorList, IsbnList, Job
from enrichment.models.jobs import BULK_AUTHOR, STAFF


@dataclass(frozen=True)
class AuthorPlan:
    """What is in a list, and what it costs."""

    names: Names
    calls_at_least: int
    """One for each author that ISBNdb is asked for."""
    calls_at_most: int
    """With all pages of all authors, without retries."""
    earlier: Job | None
    """The latest job of the payer for the same list."""


def keep_isbns(
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


def keep_authors(content: bytes, *, made_by: User, label: str, max_pages: int, skip_existing: bool) -> AuthorList:
    """Stores a pasted text or a file as given."""
    return AuthorList.objects.create(
        content=content, made_by=made_by, label=label, max_pages=max_pages, skip_existing=skip_existing
    )


def read_isbns(kept: IsbnList) -> GivenIsbns:
    """What is in the list."""
    return read(kept.values, is_spreadsheet=kept.is_spreadsheet)


def plan_authors(kept: AuthorList) -> AuthorPlan:
    """What is in the list, and what running it would cost. Raises NamesUnreadable."""
    names = read_names(bytes(kept.content))
    least, most = calls_for(Job(wanted=_options(kept)), names.names)
    same = Job.objects.filter(consumer__slug=BULK_AUTHOR, list_key=names.key).order_by("-created_at")
    return AuthorPlan(names, least, most, earlier=same.first())


def run_isbns(kept: IsbnList, *, on_exhausted: Job.OnExhausted) -> Job:
    """Turns the list into a job that the consumer STAFF pays for. The same list always gives the same job.

    Raises ConsumerUnknown (STAFF does not exist), and what `create_job` raises.
    """
    return create_job(
        consumer=payer_of(STAFF),
        kind=Job.Kind.BATCH_DIRECT,
        wanted={
            "isbns": kept.values,
            "spreadsheet": kept.is_spreadsheet,
            "refresh": kept.refresh,
            "source": kept.purpose,
            "notes": kept.notes,
        },
        on_exhausted=on_exhausted,
        idempotency_key=kept.job_key,
    )


def run_authors(kept: AuthorList, plan: AuthorPlan, *, on_exhausted: Job.OnExhausted, again: bool) -> Job:
    """The same for authors; BULK_AUTHOR pays. `plan`: of the list."""
    return create_job(
        consumer=payer_of(BULK_AUTHOR),
        kind=Job.Kind.AUTHORS,
        wanted={"authors": plan.names.names, "source": "", **_options(kept)},
        on_exhausted=on_exhausted,
        idempotency_key=kept.job_key,
        label=kept.label,
        again=again,
    )


def prune_lists(*, before: date) -> int:
    """Deletes the lists that were stored before that day; returns how many. Their jobs stay."""
    pruned = [lists.objects.filter(created_at__date__lt=before).delete() for lists in (IsbnList, AuthorList)]
    return sum(count for count, _ in pruned)


def _options(kept: AuthorList) -> dict[str, object]:
    return {"max_pages": kept.max_pages, "skip_existing": kept.skip_existing}
