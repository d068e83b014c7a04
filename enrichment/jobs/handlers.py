"""What a job does in one step, by kind: a module for ISBNs and a module for listings, with the same functions."""

from typing import Any, Protocol

from enrichment.jobs import authors, batches, pages
from enrichment.models import Job


class JobHandler(Protocol):
    """The functions that the modules of this package must have to handle a kind of job."""

    def plan(self, job: Job) -> list[Any]: ...

    def insert(self, rows: list[Any]) -> None: ...

    def step(self, job: Job) -> bool: ...

    def fail_rest(self, job: Job) -> None: ...

    def reset_failed(self, job: Job) -> bool: ...

    def result(self, job: Job) -> dict[str, Any]: ...


def handler_of(job: Job) -> JobHandler:
    return {Job.Kind.BATCH_DIRECT.value: batches, Job.Kind.AUTHORS.value: authors}.get(job.kind, pages)
