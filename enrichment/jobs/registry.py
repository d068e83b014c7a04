"""The kinds of long work. A new one is a line in `Job.Kind`, and a module in `kinds` with the name of that line."""

from importlib import import_module
from typing import Any, Protocol, cast

from enrichment.books.decoding import Answer
from enrichment.exceptions import IsbndbError
from enrichment.gateway.questions import Exchanged, Question
from enrichment.models import Job
from quota.spending import Payer


class Run(Protocol):
    """The work of one runner on a job it holds: which questions come next, and what becomes of the answers.

    It begins with what the last checkpoint says. What is under way is known to it alone, so it is asked again when the
    runner dies.
    """

    @property
    def failure(self) -> IsbndbError | None:
        """The failure after which nothing more is asked for now."""

    def prepare(self) -> bool:
        """Does what nothing may be under way for. False when nothing is left to ask for.

        Raises ENDINGS, EnrichmentStopped and ClaimLost.
        """

    def next_question(self, payer: Payer) -> Question[Answer] | None:
        """The next question; None when there is none now. Raises ClaimLost."""

    def take(self, exchanged: Exchanged[Answer]) -> None:
        """Stores the books of an answer."""

    def checkpoint(self) -> dict[str, Any]:
        """Records in the items what was taken, and returns the changed columns of the job. Called inside `held`."""


class Handler(Protocol):
    """What a module of `kinds` has."""

    UNIT: str
    """What `done` and `total` of the job count, in the singular."""
    OPERATION: str
    """The operation of its reservations."""
    UNIT_IS_AN_OPERATION: bool
    """Whether the consumer's cap for one operation holds for each unit, and not for the whole job."""

    def plan(self, job: Job) -> list[Any]:
        """Sets `total` of a new job, and returns its items for `insert`."""

    def insert(self, rows: list[Any]) -> None: ...

    def begin(self, job: Job) -> Run: ...

    def fail_rest(self, job: Job) -> None:
        """Records in the items that what is not done has failed, with `job.error`."""

    def is_left(self, job: Job) -> bool:
        """Whether a retry has something to do: what has failed or was not done."""

    def reset_failed(self, job: Job) -> None:
        """Makes what has failed pending again."""

    def result(self, job: Job) -> dict[str, Any]:
        """The figures of a job that ends."""


def handler_of(job: Job) -> Handler:
    return cast(Handler, import_module(f"enrichment.jobs.kinds.{Job.Kind(job.kind).name.lower()}"))
