"""The kinds of long work. A new one is a line in `Job.Kind`, and a module in `kinds` with the name of that line.

The module has a class `Kind`, which inherits from `Handler`.
"""

from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any, ClassVar, Protocol

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


class Handler(ABC):
    """What the engine and the pages have to know about a job of one kind."""

    UNIT: ClassVar[str]
    """What `done` and `total` of the job count, in the singular."""
    OPERATION: ClassVar[str]
    """The operation of its reservations."""
    UNIT_IS_AN_OPERATION = False
    """Whether the consumer's cap for one operation holds for each unit, and not for the whole job."""

    def __init__(self, job: Job) -> None:
        self.job = job

    @abstractmethod
    def plan(self) -> list[Any]:
        """Sets `total` of a new job, and returns its items for `insert`."""

    def insert(self, rows: list[Any]) -> None:  # noqa: B027 (does nothing unless a kind says more)
        """Stores the items, if this kind has any."""

    @abstractmethod
    def begin(self) -> Run: ...

    def fail_rest(self) -> None:  # noqa: B027 (does nothing unless a kind says more)
        """Records in the items that what is not done has failed, if a retry must not simply continue there."""

    @abstractmethod
    def is_left(self) -> bool:
        """Whether a retry has something to do: what has failed or was not done."""

    def reset_failed(self) -> None:  # noqa: B027 (does nothing unless a kind says more)
        """Makes the items that have failed pending again."""

    @abstractmethod
    def result(self) -> dict[str, Any]:
        """The figures of a job that ends."""


def handler_of(job: Job) -> Handler:
    module = import_module(f"enrichment.jobs.kinds.{Job.Kind(job.kind).name.lower()}")
    handler: Handler = module.Kind(job)
    return handler
