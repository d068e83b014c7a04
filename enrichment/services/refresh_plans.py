"""The cheapest plan of a refresh: the books of some authors by their listings, all other editions in batches.

A page of a listing brings up to 1,000 books of an author for one call. When ISBNdb charges a batch by the ISBN, one
call of a batch brings one book, so most authors are cheaper by listing. When it charges by the request, batches win.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import heapify, heappop, heappush
from math import ceil

from django.conf import settings

from enrichment.gateway.listings import MAX_NAME_LENGTH, MAX_RESULTS, PAGE_SIZE
from enrichment.selectors.refreshes import WantedAuthor, wanted_authors
from quota.selectors.prices import cost_of_isbns

CostOfIsbns = Callable[[int], int]
"""What so many ISBNs cost in batches, in calls."""


@dataclass(frozen=True)
class BatchValue:
    """What batches get for their calls: `size` ISBNs for `calls`."""

    size: int
    calls: int

    def is_less_than(self, editions: int, *, calls: int) -> bool:
        """Whether so many editions for so many calls are more than batches get."""
        return editions * self.calls > calls * self.size


@dataclass(frozen=True)
class AuthorListing:
    """The listing of an author, and the wanted editions that it is to renew. No other listing has them."""

    name: str
    pages: int
    """As many as the stored editions of the author fill."""
    isbns: tuple[str, ...]
    expected: int
    """How many of them ISBNdb can list: it gives the first 10,000 books only."""


@dataclass(frozen=True)
class RefreshPlan:
    """How to renew the wanted editions. Each of them is in one listing or in `rest`."""

    isbns: tuple[str, ...]
    """All wanted editions, in the given order."""
    listings: tuple[AuthorListing, ...]
    """Those that renew most for each call come first."""
    rest: tuple[str, ...]
    """For batches, in the given order."""
    calls: int
    """What the plan costs if the listings bring what is expected, without retries."""
    calls_by_batches: int
    """What the same editions cost in batches alone. `calls` is never more."""
    batch: BatchValue

    @property
    def by_listings(self) -> int:
        """How many of the wanted editions the listings are to renew."""
        return len(self.isbns) - len(self.rest)

    @property
    def requests(self) -> int:
        """Without retries: the pages of the listings, and the batches."""
        return sum(listing.pages for listing in self.listings) + ceil(len(self.rest) / self.batch.size)

    def as_dict(self) -> dict[str, int]:
        """The figures as commands show them."""
        return {
            "editions": len(self.isbns),
            "calls": self.calls,
            "calls_by_batches": self.calls_by_batches,
            "listings": len(self.listings),
            "editions_by_listings": self.by_listings,
        }


def plan_refresh(isbns: Sequence[str], *, without: Collection[str] = ()) -> RefreshPlan:
    """The cheapest plan for ISBN-13s at the prices in force. Those that are not stored go into batches.

    `without`: the names of authors that must not be listed. Raises QuotaUnavailable.
    """
    batch = batch_value()
    # A listing costs at least one call, so the authors of fewer editions cannot pay.
    min_editions = batch.size // batch.calls + 1
    authors = wanted_authors(isbns if listings_can_pay(batch) else [], min_editions=min_editions, page_size=PAGE_SIZE)
    listable = (each for each in authors if len(each.name) <= MAX_NAME_LENGTH and each.name not in without)
    return cheapest_plan(isbns, listable, batch=batch, cost_of_isbns=cost_of_isbns)


def batch_value() -> BatchValue:
    """What batches get for their calls at the prices in force. Raises QuotaUnavailable."""
    size = settings.ISBNDB_BATCH_SIZE
    return BatchValue(size, cost_of_isbns(size))


def listings_can_pay(batch: BatchValue) -> bool:
    """Whether a full page of a listing brings more for its call than a batch. If not, nothing has to be read."""
    return batch.is_less_than(PAGE_SIZE, calls=1)


def cheapest_plan(
    isbns: Sequence[str], authors: Iterable[WantedAuthor], *, batch: BatchValue, cost_of_isbns: CostOfIsbns
) -> RefreshPlan:
    """Takes the listing that renews most editions for each call, as long as it renews more than a batch does.

    An edition counts for the first listing that has it, so a book by two authors is renewed once. The result is not
    always the best of all plans, but it never costs more than batches alone.
    """
    pending = dict.fromkeys(isbns)
    wanted = tuple(pending)
    candidates = list(authors)
    listings: list[AuthorListing] = []
    # Each time, the best candidate is counted again: others have taken editions since. Its value can only have fallen.
    queue = [(-_value(listing), at) for at, listing in enumerate(map(_listing_of, candidates))]
    heapify(queue)
    while queue:
        counted, at = heappop(queue)
        author = candidates[at]
        listing = _listing_of(author, pending)
        if not batch.is_less_than(listing.expected, calls=listing.pages):
            continue
        if -_value(listing) != counted:
            heappush(queue, (-_value(listing), at))
            continue
        listings.append(listing)
        for isbn in listing.isbns:
            del pending[isbn]
    unlisted = sum(len(listing.isbns) - listing.expected for listing in listings)
    return RefreshPlan(
        isbns=wanted,
        listings=tuple(listings),
        rest=tuple(pending),
        calls=sum(listing.pages for listing in listings) + cost_of_isbns(len(pending) + unlisted),
        calls_by_batches=cost_of_isbns(len(wanted)),
        batch=batch,
    )


def _listing_of(author: WantedAuthor, pending: Iterable[str] | None = None) -> AuthorListing:
    """The listing of the author for those of its wanted editions that are pending."""
    isbns = author.isbns if pending is None else tuple(isbn for isbn in author.isbns if isbn in pending)
    reached = min(author.editions, MAX_RESULTS)
    return AuthorListing(
        name=author.name,
        pages=max(1, ceil(reached / PAGE_SIZE)),
        isbns=isbns,
        expected=len(isbns) * reached // max(1, author.editions),
    )


def _value(listing: AuthorListing) -> Fraction:
    return Fraction(listing.expected, listing.pages)
