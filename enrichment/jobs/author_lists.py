"""Lists of authors that staff enter in the admin, stored until somebody runs them as a job or they are pruned."""

from dataclasses import dataclass
from datetime import date

from django.contrib.auth.models import User

from enrichment.authors.names import Names, read_names
from enrichment.jobs.kinds.authors import calls_for
from enrichment.jobs.lifecycle import create_job, payer_of
from enrichment.models import AuthorList, Job
from enrichment.models.jobs import BULK_AUTHOR


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


def keep_authors(content: bytes, *, made_by: User, label: str, max_pages: int, skip_existing: bool) -> AuthorList:
    """Stores a pasted text or a file as given."""
    return AuthorList.objects.create(
        content=content, made_by=made_by, label=label, max_pages=max_pages, skip_existing=skip_existing
    )


def plan_authors(kept: AuthorList) -> AuthorPlan:
    """What running the list would cost. Raises NamesUnreadable."""
    names = read_names(bytes(kept.content))
    least, most = calls_for(Job(wanted=_options(kept)), names.names)
    same = Job.objects.filter(consumer__slug=BULK_AUTHOR, list_key=names.key).order_by("-created_at")
    return AuthorPlan(names, least, most, earlier=same.first())


def run_authors(kept: AuthorList, plan: AuthorPlan, *, on_exhausted: Job.OnExhausted, again: bool) -> Job:
    """Turns the list into a job that BULK_AUTHOR pays for. The same stored list always gives the same job.

    `plan`: of the list. Raises ConsumerUnknown (BULK_AUTHOR does not exist), and what `create_job` raises.
    """
    return create_job(
        consumer=payer_of(BULK_AUTHOR),
        kind=Job.Kind.AUTHORS,
        wanted={"authors": plan.names.names, "source": "", **_options(kept)},
        on_exhausted=on_exhausted,
        idempotency_key=authors_key(kept),
        label=kept.label,
        again=again,
    )


def prune_author_lists(*, before: date) -> int:
    """Deletes the lists that were stored before that day; returns how many. Their jobs stay."""
    pruned, _ = AuthorList.objects.filter(created_at__date__lt=before).delete()
    return pruned


def authors_key(kept: AuthorList) -> str:
    """The idempotency key of the job of a list."""
    return f"authors:{kept.pk}"


def _options(kept: AuthorList) -> dict[str, object]:
    return {"max_pages": kept.max_pages, "skip_existing": kept.skip_existing}
