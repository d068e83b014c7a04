"""What the kinds of jobs have in common: the same functions, in a module each."""

from typing import Any, Protocol

from enrichment.jobs import batches, pages
from enrichment.models import Job


class Work(Protocol):
    def plan(self, job: Job) -> list[batches.Row]: ...

    def step(self, job: Job) -> bool: ...

    def give_up_rest(self, job: Job) -> None: ...

    def try_again(self, job: Job) -> bool: ...

    def result(self, job: Job) -> dict[str, Any]: ...


def work_of(job: Job) -> Work:
    return batches if job.kind == Job.Kind.BATCH_DIRECT else pages
