"""What a list of ISBNs would cost, before anything is sent."""

from collections.abc import Iterable
from dataclasses import dataclass

from enrichment.isbn.parsing import ParsedIsbns, parse_many
from enrichment.selectors.books import in_parts, known_isbns
from quota.selectors.prices import cost_of_isbns, requests_for_isbns


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
    calls: int
    """What the wanted ones cost at the price in force, without retries."""

    @property
    def duplicates(self) -> int:
        return self.requested - len(self.parsed.valid) - len(self.parsed.invalid)

    @property
    def requests(self) -> int:
        """Without retries, and without extra requests for a batch that ISBNdb can only answer in parts."""
        return requests_for_isbns(self.wanted)


def plan_isbns(values: Iterable[str | int], *, refresh: bool = False) -> IsbnPlan:
    """What the ISBNs, in any form, would cost now. With `refresh`, known ISBNs are asked for too.

    Raises QuotaUnavailable.
    """
    given = list(values)
    parsed = parse_many(given)
    if refresh:
        fresh, missed, wanted = 0, 0, len(parsed.valid)
    else:
        known = [known_isbns(part) for part in in_parts(parsed.valid)]
        fresh, missed, wanted = (
            sum(len(getattr(part, name)) for part in known) for name in ("fresh", "missed", "wanted")
        )
    return IsbnPlan(len(given), parsed, fresh, missed, wanted, calls=cost_of_isbns(wanted))
