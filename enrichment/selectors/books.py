"""Reads what is stored, and what is known about ISBNs and authors."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Greatest, Least, Now

from enrichment.books.misses import ask_again_at, still_remembered
from enrichment.models import AuthorMiss, Edition, FeedFollowing, ListedAuthor, Miss
from enrichment.models.books import NAMED
from enrichment.models.feed import FEED_HISTORY

MAX_ISBNS = 1000
"""Of the parts of a long list: PostgreSQL takes several times as long for one list of 100,000."""

JUST_NOW = timedelta(minutes=1)
"""What ISBNdb has answered within this time is not asked again, not even to refresh it."""

LISTED_FOR = timedelta(days=1)
"""An author whose books ISBNdb has listed within this time is listed again only on purpose."""

FOLLOWED_FACTOR = 4
"""An edition that the followed feed has not named is fresh up to this many times EDITION_FRESH_DAYS."""


@dataclass(frozen=True)
class KnownIsbns:
    """ISBN-13s by what is known about them. Each is in one of the three groups."""

    fresh: set[str]
    missed: set[str]
    """Unknown to ISBNdb when last asked, too recently to ask again, and not fresh: ISBNdb can drop a stored book."""
    wanted: list[str]
    """All others, in the given order. Alexandria has to ask ISBNdb for these."""


def in_parts(isbns: Sequence[str]) -> Iterator[Sequence[str]]:
    """The ISBN-13s in parts that one query takes."""
    return (isbns[start : start + MAX_ISBNS] for start in range(0, len(isbns), MAX_ISBNS))


def known_isbns(isbns: Collection[str], *, refresh: bool = False) -> KnownIsbns:
    """Groups the ISBN-13s by what is fresh and what is still remembered as unknown.

    `refresh`: only what ISBNdb has answered within JUST_NOW counts.
    """
    if refresh:
        fresh = set(_just_now(Edition.objects.filter(synced_at__gt=Now() - JUST_NOW), isbns))
        missed = set(_just_now(Miss.objects.filter(asked_at__gt=Now() - JUST_NOW), isbns)) - fresh
    else:
        fresh = fresh_isbns(isbns)
        missed = set(remembered_misses().filter(isbn13__any_of=isbns).values_list("isbn13", flat=True)) - fresh
    return KnownIsbns(fresh, missed, [isbn for isbn in isbns if isbn not in fresh and isbn not in missed])


def fresh_editions() -> QuerySet[Edition]:
    """The editions that need no refresh.

    ISBNdb has sent them within EDITION_FRESH_DAYS. With FEED_FRESHNESS, it is up to FOLLOWED_FACTOR times as long for
    an edition that was fetched since the feed is followed without a gap; and what the feed has named is not fresh.
    """
    fresh = Edition.objects.filter(synced_at__gt=_fresh_after())
    return fresh.filter(named_at=None) if settings.FEED_FRESHNESS else fresh


def fresh_isbns(isbns: Collection[str]) -> set[str]:
    """The ISBN-13s that have a stored, fresh edition."""
    return set(fresh_editions().filter(isbn13__any_of=isbns).values_list("isbn13", flat=True))


def stale_editions() -> QuerySet[Edition]:
    """The editions that a refresh can renew: not fresh, or named by the feed, and not remembered as unknown."""
    return _not_dropped(Edition.objects.filter(NAMED | Q(synced_at__lte=_fresh_after())))


def stale_isbns(limit: int) -> list[str]:
    """The stale editions: first what the feed has named, then the others; the oldest first in both."""
    named = _not_dropped(Edition.objects.filter(NAMED)).order_by("named_at", "isbn13")
    old = _not_dropped(Edition.objects.filter(synced_at__lte=_fresh_after(), named_at=None))
    first = list(named.values_list("isbn13", flat=True)[:limit])
    then = old.order_by("synced_at", "isbn13").values_list("isbn13", flat=True)
    return first + list(then[: limit - len(first)])


def oldest_isbns(limit: int) -> list[str]:
    """The ISBN-13s of the editions that were fetched the longest ago."""
    return list(Edition.objects.order_by("synced_at").values_list("isbn13", flat=True)[:limit])


def named_isbns(limit: int) -> list[str]:
    """The editions and misses that the feed has named, and that ISBNdb was not asked for since; the oldest first."""
    found: set[tuple[Any, str]] = set()
    for rows in (_not_dropped(Edition.objects.filter(NAMED)), Miss.objects.filter(NAMED)):
        found.update(rows.order_by("named_at", "isbn13").values_list("named_at", "isbn13")[:limit])
    return list(dict.fromkeys(isbn for _, isbn in sorted(found)))[:limit]


def remembered_misses() -> QuerySet[Miss]:
    """The ISBNs that ISBNdb did not know, and is not asked for again yet. What the feed has named is not among them."""
    return Miss.objects.filter(still_remembered(), named_at=None)


def stored_isbns(isbns: Collection[str]) -> set[str]:
    """The ISBN-13s that have a stored edition of any age."""
    return set(Edition.objects.filter(isbn13__any_of=isbns).values_list("isbn13", flat=True))


def is_missed_author(name: str) -> bool:
    """Whether ISBNdb did not know the author by exactly this name, and is not asked again yet."""
    return remembered_author_misses().filter(pk=name).exists()


def remembered_author_misses() -> QuerySet[AuthorMiss]:
    """The authors that ISBNdb did not know, and is not asked for again yet."""
    return AuthorMiss.objects.filter(still_remembered())


def ask_isbns_again_at(isbns: Collection[str]) -> dict[str, datetime]:
    """For each ISBN-13 that ISBNdb did not know, the time from which a request for it asks ISBNdb again."""
    return {miss.pk: ask_again_at(miss) for miss in Miss.objects.filter(isbn13__any_of=isbns).order_by("isbn13")}


def get_edition(isbn13: str) -> Edition | None:
    """The stored edition with its work, and with its authors in order in `author_links`."""
    return Edition.objects.select_related("work").prefetch_related("author_links__author").filter(isbn13=isbn13).first()


def last_answered(isbn13: str) -> datetime | None:
    """When ISBNdb last answered about the ISBN-13, also that it does not know it; None when it never did."""
    stored = Edition.objects.filter(pk=isbn13).values_list("synced_at", flat=True)
    missed = Miss.objects.filter(pk=isbn13).values_list("asked_at", flat=True)
    return max([*stored, *missed], default=None)


def get_listed_author(name: str, *, max_pages: int, refresh: bool) -> ListedAuthor | None:
    """The author by exactly this name, if ISBNdb has lately listed as many pages as are wanted, or all.

    Lately is within LISTED_FOR, or to `refresh` within JUST_NOW.
    """
    lately = Now() - (JUST_NOW if refresh else LISTED_FOR)
    return ListedAuthor.objects.filter(
        Q(next_page=None) | Q(next_page__gt=max_pages), pk=name, listed_at__gt=lately
    ).first()


def _just_now(answered: QuerySet[Any], isbns: Collection[str]) -> QuerySet[Any, str]:
    """The ISBN-13s among the rows, without those that the feed has named since."""
    return answered.filter(isbn13__any_of=isbns, named_at=None).values_list("isbn13", flat=True)


def _fresh_after() -> Combinable:
    """Editions that ISBNdb has sent after this moment are not old. It is one moment, so that an index answers.

    The record of the feed is read first: inside the query, PostgreSQL could not estimate how many editions are old.
    """
    days = timedelta(days=settings.EDITION_FRESH_DAYS)
    ordinary = Now() - days
    if not settings.FEED_FRESHNESS:
        return ordinary
    followed = FeedFollowing.objects.filter(ended_at=None, read_up_to__gt=Now() - FEED_HISTORY)
    since = followed.values_list("began_at", flat=True).first()
    return ordinary if since is None else Least(ordinary, Greatest(Value(since), Now() - FOLLOWED_FACTOR * days))


def _not_dropped(editions: QuerySet[Edition]) -> QuerySet[Edition]:
    """Without those that ISBNdb did not know any more when it was last asked."""
    return editions.filter(~Exists(remembered_misses().filter(isbn13=OuterRef("isbn13"))))
