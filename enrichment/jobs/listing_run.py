"""Jobs of listings: their pages, several under way at once."""

from abc import abstractmethod
from typing import Any

from enrichment.books.decoding import Answer
from enrichment.exceptions import IsbndbError
from enrichment.gateway.questions import Exchanged, Question
from enrichment.jobs.registry import Handler, Run
from enrichment.models import Job
from enrichment.selectors.jobs import MAX_FAILURES
from enrichment.services.listings import Progress, Walk
from quota.spending import Payer, Spender


class ListingRun:
    """Fetches the pages of a walk. The job's progress has the figures, and says which pages are missing."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk

    @property
    def failure(self) -> IsbndbError | None:
        return self.walk.failure

    def prepare(self) -> bool:
        return not self.walk.is_complete

    def next_question(self, payer: Payer) -> Question[Answer] | None:
        return self.walk.next_question(payer)

    def take(self, exchanged: Exchanged[Answer]) -> None:
        self.walk.progress.api_calls += calls_of(exchanged)
        self.walk.take(exchanged)

    def checkpoint(self) -> dict[str, Any]:
        del self.walk.progress.errors[MAX_FAILURES:]
        done = self.walk.progress.pages_fetched
        return {"progress": as_saved(self.walk), "done": done, "total": done + self.walk.calls_needed}


def calls_of(exchanged: Exchanged[Answer]) -> int:
    """The calls that the question has cost."""
    payer = exchanged.question.payer
    return payer.calls_spent if isinstance(payer, Spender) else 0


def as_saved(walk: Walk) -> dict[str, Any]:
    """The figures and the missing pages of a walk, for JSON."""
    return {**walk.progress.as_json(), "place": walk.place}


def from_saved(saved: dict[str, Any]) -> dict[str, Any]:
    """The arguments `place` and `progress` of a walk that continues what `as_saved` has recorded; {} of nothing."""
    if not saved:
        return {}
    figures = {**saved}
    return {"place": figures.pop("place"), "progress": Progress.from_json(figures)}


class PagesKind(Handler):
    """The base of the kinds whose units are the pages of one walk. They have no items: a retry gets what is missing."""

    UNIT = "page"

    @abstractmethod
    def walk(self) -> Walk:
        """The walk from where the last checkpoint is."""

    def plan(self) -> list[Any]:
        self.job.total = self.walk().calls_needed
        return []

    def begin(self) -> Run:
        return ListingRun(self.walk())

    def is_left(self) -> bool:
        return self.job.state != Job.State.SUCCEEDED and not self.walk().is_complete
