"""What enriching would come to, before a call is spent."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil

from django.conf import settings

from enrichment.isbn.parsing import ParsedIsbns, parse_many
from enrichment.selectors.books import known_isbns

_PART = 1000


@dataclass(frozen=True)
class IsbnPlan:
    """What a list of ISBNs holds, and what asking for them would cost. Every valid one is fresh, missed or wanted."""

    requested: int
    """Values given."""
    parsed: ParsedIsbns
    fresh: int
    """Stored and recent enough: not asked for."""
    missed: int
    """Unknown to ISBNdb when last asked, and not asked for again so soon."""
    wanted: int
    """Those that have to be asked for."""

    @property
    def duplicates(self) -> int:
        return self.requested - len(self.parsed.valid) - len(self.parsed.invalid)

    @property
    def calls(self) -> int:
        """Without retries, and without what splitting an answer that is too large for ISBNdb takes."""
        return ceil(self.wanted / settings.ISBNDB_BATCH_SIZE)


def plan_isbns(values: Iterable[str | int], *, refresh: bool = False) -> IsbnPlan:
    """What the ISBNs, in any form, would cost at this moment; with `refresh`, none is left out for being known."""
    given = list(values)
    parsed = parse_many(given)
    if refresh:
        return IsbnPlan(len(given), parsed, fresh=0, missed=0, wanted=len(parsed.valid))
    known = [known_isbns(part) for part in _parts(parsed.valid)]
    counts = (sum(len(getattr(part, name)) for part in known) for name in ("fresh", "missed", "wanted"))
    return IsbnPlan(len(given), parsed, *counts)


def _parts(isbns: list[str]) -> Iterator[list[str]]:
    """PostgreSQL takes several times as long for one list of 100,000."""
    return (isbns[start : start + _PART] for start in range(0, len(isbns), _PART))
