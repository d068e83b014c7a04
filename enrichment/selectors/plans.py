"""What a list of ISBNs would cost, before a call is spent."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil

from django.conf import settings

from enrichment.isbn.parsing import ParsedIsbns, parse_many
from enrichment.selectors.books import known_isbns

_PART = 1000


@dataclass(frozen=True)
class IsbnPlan:
    """What a list contains and what it would cost. Every valid ISBN is fresh, missed or wanted."""

    requested: int
    """Number of values given."""
    parsed: ParsedIsbns
    fresh: int
    """Stored and recent enough: costs no call."""
    missed: int
    """Unknown to ISBNdb when last asked, and too recently to ask again."""
    wanted: int
    """ISBNdb has to be asked for these."""

    @property
    def duplicates(self) -> int:
        return self.requested - len(self.parsed.valid) - len(self.parsed.invalid)

    @property
    def calls(self) -> int:
        """Without retries, and without extra calls for a batch that ISBNdb can only answer in parts."""
        return ceil(self.wanted / settings.ISBNDB_BATCH_SIZE)


def plan_isbns(values: Iterable[str | int], *, refresh: bool = False) -> IsbnPlan:
    """What the ISBNs, in any form, would cost now. With `refresh`, known ISBNs are asked for too."""
    given = list(values)
    parsed = parse_many(given)
    if refresh:
        return IsbnPlan(len(given), parsed, fresh=0, missed=0, wanted=len(parsed.valid))
    known = [known_isbns(part) for part in _parts(parsed.valid)]
    counts = (sum(len(getattr(part, name)) for part in known) for name in ("fresh", "missed", "wanted"))
    return IsbnPlan(len(given), parsed, *counts)


def _parts(isbns: list[str]) -> Iterator[list[str]]:
    """In parts, because PostgreSQL takes several times as long for one list of 100,000."""
    return (isbns[start : start + _PART] for start in range(0, len(isbns), _PART))
