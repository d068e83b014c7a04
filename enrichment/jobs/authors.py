"""A job of authors: the pages of several authors are under way together, in the order of the list."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from enrichment import selectors
from enrichment.books.match_keys import name_key
from enrichment.models import Job, JobAuthor
from enrichment.services.bibliographies import MAX_PAGES

CHUNK = 1000  # authors in one INSERT


def plan(job: Job) -> list[JobAuthor]:
    """The authors of a new job. In `wanted`, `requested` replaces the list; `list_key` identifies it."""
    names = job.wanted["authors"]
    job.wanted = {name: value for name, value in job.wanted.items() if name != "authors"} | {"requested": len(names)}
    job.list_key = job.list_key or list_key(names)
    job.total = len(names)
    return [JobAuthor(job=job, position=position, name=name) for position, name in enumerate(names, start=1)]


def insert(authors: Sequence[JobAuthor]) -> None:
    JobAuthor.objects.bulk_create(authors, CHUNK)


def list_key(names: Sequence[str]) -> str:
    """A short key, equal for the same names in the same order, however they are written."""
    return blake2b("\n".join(map(name_key, names)).encode(), digest_size=16).hexdigest()


def calls_of(job: Job, names: Sequence[str]) -> tuple[int, int]:
    """The calls for all authors of the list: at least and at most, without retries."""
    most = len(names) * job.wanted.get("max_pages", MAX_PAGES)
    known = selectors.remembered_author_misses().filter(pk__in=names).count() if _skips_existing(job) else 0
    return len(names) - known, most


def _skips_existing(job: Job) -> bool:
    skips: bool = job.wanted.get("skip_existing", True)
    return skips


def step(job: Job) -> bool:
    raise NotImplementedError("Authors come with the engine.")


def fail_rest(job: Job) -> None:
    """Does nothing: a retry continues with what is missing."""


def reset_failed(job: Job) -> bool:
    """Makes the failed authors pending again; False when everything is done. Their `reason` stays: they come last."""
    job.authors.filter(state=JobAuthor.State.FAILED).update(state=JobAuthor.State.PENDING)
    pending = job.authors.filter(state=JobAuthor.State.PENDING).count()
    job.done = job.total - pending
    return pending > 0


def result(job: Job) -> dict[str, Any]:
    """The number of authors in each state, and the figures of their books."""
    return selectors.author_figures(job)
