"""What a run of a cron gets, and what it reports back."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from enrichment.exceptions import IsbndbError
from harvest.exceptions import FailedTooOften, RunLost

MAX_FAILURES_IN_A_ROW = 3
"""After this many failures a run sends no more: the cause is ISBNdb itself, not one batch or page."""


@dataclass
class RunContext:
    """One run of a cron. Its results are kept, however the run ends.

    `consumer`: the slug of the consumer that pays; "" for a cron that spends no calls. `source`: the source of its
    reservations. `today`: the UTC day of the quota at the start of the run.
    """

    consumer: str
    source: str
    today: date
    cursor: dict[str, Any] = field(default_factory=dict)
    """Where to continue. A thread saves it during the run: replace it, never change it in place."""
    books: int = 0
    """Editions stored."""
    idle: bool = False
    """There was nothing to do."""
    failures: Counter[str] = field(default_factory=Counter)
    """The failures of ISBNdb after which the run continued, with their number."""
    has_answer: bool = False
    """ISBNdb has answered in this run."""
    in_a_row: int = 0
    """Failures since the last answer from ISBNdb."""
    lost: bool = False
    """The lease is gone: another run may be in progress."""
    renew: Callable[["RunContext"], object] = lambda context: None
    """Renews the lease of the run and saves its cursor."""

    @property
    def can_continue(self) -> bool:
        return not self.lost and self.in_a_row < MAX_FAILURES_IN_A_ROW

    def save_cursor(self, cursor: dict[str, Any]) -> None:
        """Saves where to continue at once, so that a worker that dies loses nothing before it."""
        self.cursor = cursor
        self.renew(self)

    def check_can_continue(self) -> None:
        """For the start of each batch and page. Raises RunLost and FailedTooOften when the run must end."""
        if self.lost:
            raise RunLost("The run lost its lease, and another run may be in progress.")
        if self.in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise FailedTooOften(f"{self.in_a_row} failures in a row")

    def record_answer(self) -> None:
        """Records that ISBNdb has answered."""
        self.in_a_row, self.has_answer = 0, True

    def record_failure(self, error: Exception) -> None:
        """Records a failure of ISBNdb, so that the run can continue with something else. Raises any other error."""
        if not isinstance(error, IsbndbError):
            raise error
        self.failures[f"{type(error).__name__}: {error}"] += 1
        self.in_a_row += 1
