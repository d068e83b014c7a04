"""What a list of ISBNs would cost, before anything is sent."""

from collections.abc import Iterable
from dataclasses import dataclass

from enrichment.isbn.reading import GivenIsbns, read
from enrichment.selectors.books import in_parts, known_isbns
from quota.selectors.prices import cost_of_isbns, requests_for_isbns


@dataclass(frozen=True)
class IsbnPlan:
    """What a list contains and what it would cost. Every valid ISBN is fresh, missed or wanted."""

    given: GivenIsbns
    fresh: int
    """Stored and recent enough: costs no call."""
    missed: int
    """Unknown to ISBNdb when last asked, and too recently to ask again."""
    wanted: int
    """ISBNdb has to be asked for these."""
    calls: int
    """What the wanted ones cost at the price in force, without retries."""

    @property
    def requests(self) -> int:
        """Without retries, and without extra requests for a batch that ISBNdb can only answer in parts."""
        return requests_for_isbns(self.wanted)


def plan_isbns(values: Iterable[object] | GivenIsbns, *, refresh: bool = False) -> IsbnPlan:
    """What the ISBNs, in any form or as `read` returns them, would cost now. With `refresh`, known ones cost too.

    Raises QuotaUnavailable.
    """
    given = read(values)
    if refresh:
        fresh, missed, wanted = 0, 0, len(given.valid)
    else:
        known = [known_isbns(part) for part in in_parts(given.valid)]
        fresh, missed, wanted = (
            sum(len(getattr(part, name)) for part in known) for name in ("fresh", "missed", "wanted")
        )
    return IsbnPlan(given, fresh, missed, wanted, calls=cost_of_isbns(wanted))
