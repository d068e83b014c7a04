"""What a cron is given, and what it has done."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from enrichment.exceptions import IsbndbError
from harvest.exceptions import FailedTooOften, RunLost

MOST_IN_A_ROW = 3
"""Failures after which a run leaves ISBNdb alone: it is not the batch or the page any more."""


@dataclass
class RunContext:
    """One run's work. What has been done is kept, however the run ends.

    `consumer`: the slug of who pays; "" for a cron that spends no calls. `source`: what its calls are recorded under.
    `today`: the quota's UTC day when it began.
    """

    consumer: str
    source: str
    today: date
    cursor: dict[str, Any] = field(default_factory=dict)
    """Where to go on. It is saved while the cron runs: to be replaced, never changed in place."""
    books: int = 0
    """Editions stored."""
    idle: bool = False
    """There was nothing to do."""
    failures: Counter[str] = field(default_factory=Counter)
    """What ISBNdb failed at, and how often; the run went on with something else."""
    in_a_row: int = 0
    """Failures since ISBNdb's last answer."""
    lost: bool = False
    """The run was taken for dead: another one may be under way."""

    def go_on(self) -> None:
        """To be called before each batch and page. Raises RunLost and FailedTooOften when there is to be no further."""
        if self.lost:
            raise RunLost("It was taken for dead, and another run may be under way.")
        if self.in_a_row >= MOST_IN_A_ROW:
            raise FailedTooOften(f"{self.in_a_row} failures in a row")

    def answered(self) -> None:
        """Says that ISBNdb has answered."""
        self.in_a_row = 0

    def failed(self, error: Exception) -> None:
        """Notes a failure of ISBNdb's, for the run to go on with something else. Raises any other error."""
        if not isinstance(error, IsbndbError):
            raise error
        self.failures[f"{type(error).__name__}: {error}"] += 1
        self.in_a_row += 1
