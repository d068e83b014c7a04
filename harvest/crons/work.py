"""What a cron is given, and what it has done."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any


@dataclass
class Work:
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
