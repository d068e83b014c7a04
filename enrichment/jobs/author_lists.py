"""Lists of authors that staff enter in the admin, stored until somebody runs them as a job or they are pruned."""

from dataclasses import dataclass
from datetime import date

from django.contrib.auth.models import User

from enrichment.authors.names import Names, read_names
from enrichment.jobs.kinds.authors import calls_for
from enrichment.jobs.lifecycle import create_job
from enrichment.models import AuthorList, Job
from quota.exceptions import ConsumerUnknown
from quota.models import Consumer

PAYER = "bulk-author"
"""The consumer that pays, as for the command bulk_author_harvest. Its floor keeps calls free for others."""


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
    same = Job.objects.filter(consumer__slug=PAYER, list_key=names.key).order_by("-created_at")
    return AuthorPlan(names, least, most, earlier=same.first())


def run_authors(kept: AuthorList, *, on_exhausted: Job.OnExhausted, again: bool) -> Job:
    """Turns the list into a job that PAYER pays for. The same stored list always gives the same job.

    Raises ConsumerUnknown (PAYER does not exist), NamesUnreadable, and what `create_job` raises.
    """
    payer = Consumer.objects.filter(slug=PAYER).first()
    if payer is None:
        raise ConsumerUnknown(f"There is no consumer {PAYER!r} to pay for this. Run manage.py migrate to create it.")
    return create_job(
        consumer=payer,
        kind=Job.Kind.AUTHORS,
        wanted={"authors": read_names(bytes(kept.content)).names, "source": "", **_options(kept)},
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
