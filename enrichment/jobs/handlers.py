"""What a job does in one step, by kind: a module for ISBNs and a module for listings, with the same functions."""

from typing import Any, Protocol

from enrichment.jobs import batches, pages
from enrichment.models import Job


class JobHandler(Protocol):
    """The functions that the modules of this package must have to handle a kind of job."""

    def plan(self, job: Job) -> list[batches.Row]: ...

    def step(self, job: Job) -> bool: ...

    def fail_rest(self, job: Job) -> None: ...

    def reset_failed(self, job: Job) -> bool: ...

    def result(self, job: Job) -> dict[str, Any]: ...


def handler_of(job: Job) -> JobHandler:
    return batches if job.kind == Job.Kind.BATCH_DIRECT else pages
