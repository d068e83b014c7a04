"""The run of a job of listings: their pages, several under way at once."""

from typing import Any

from enrichment.books.decoding import Answer
from enrichment.exceptions import IsbndbError
from enrichment.gateway.questions import Exchanged, Question
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


def insert(rows: list[Any]) -> None:
    """Does nothing: there are no items."""


def fail_rest(job: Job) -> None:
    """Does nothing: a retry continues with the pages that are missing."""


def reset_failed(job: Job) -> None:
    """Does nothing, for the same reason."""
