"""What is known of ISBNs and authors, and what is stored."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from enrichment.books.match_keys import name_key
from enrichment.models import AuthorMiss, Edition, Miss


@dataclass(frozen=True)
class KnownIsbns:
    """What is known of ISBN-13s: each is one of the three."""

    fresh: set[str]
    missed: set[str]
    """Unknown to ISBNdb when last asked, and not stored: it may have dropped what we have."""
    wanted: list[str]
    """The others, in the order given: those have to be asked for."""


def known_isbns(isbns: Collection[str]) -> KnownIsbns:
    """What is known of the ISBN-13s, by EDITION_FRESH_DAYS and MISS_REMEMBER_DAYS."""
    fresh = fresh_isbns(isbns)
    missed = set(remembered_misses().filter(isbn13__in=isbns).values_list("isbn13", flat=True)) - fresh
    return KnownIsbns(fresh, missed, [isbn for isbn in isbns if isbn not in fresh and isbn not in missed])


def fresh_editions() -> QuerySet[Edition]:
    """The editions that ISBNdb told us of within EDITION_FRESH_DAYS."""
    return Edition.objects.filter(synced_at__gt=Now() - timedelta(days=settings.EDITION_FRESH_DAYS))


def fresh_isbns(isbns: Collection[str]) -> set[str]:
    """Those of the ISBN-13s of which an edition is stored and fresh."""
    return set(fresh_editions().filter(isbn13__in=isbns).values_list("isbn13", flat=True))


def remembered_misses() -> QuerySet[Miss]:
    """The ISBNs that ISBNdb did not know within MISS_REMEMBER_DAYS."""
    return Miss.objects.filter(asked_at__gt=Now() - timedelta(days=settings.MISS_REMEMBER_DAYS))


def stored_isbns(isbns: Collection[str]) -> set[str]:
    """Those of the ISBN-13s of which an edition is stored, however old."""
    return set(Edition.objects.filter(isbn13__in=isbns).values_list("isbn13", flat=True))


def isbns_heard_of(isbns: Collection[str]) -> set[str]:
    """Those of the ISBN-13s that are stored, or that ISBNdb did not know when it was asked, whenever that was."""
    return stored_isbns(isbns) | set(Miss.objects.filter(isbn13__in=isbns).values_list("isbn13", flat=True))


def stale_isbns(limit: int) -> list[str]:
    """Editions beyond EDITION_FRESH_DAYS, oldest first; not those that ISBNdb has dropped (MISS_REMEMBER_DAYS)."""
    stale_since = Now() - timedelta(days=settings.EDITION_FRESH_DAYS)
    dropped = remembered_misses().filter(isbn13=OuterRef("isbn13"))
    stale = Edition.objects.filter(~Exists(dropped), synced_at__lte=stale_since).order_by("synced_at", "isbn13")
    return list(stale.values_list("isbn13", flat=True)[:limit])


def is_missed_author(name: str) -> bool:
    """Whether ISBNdb did not know the author within MISS_REMEMBER_DAYS."""
    return remembered_author_misses().filter(name_key=name_key(name)).exists()


def remembered_author_misses() -> QuerySet[AuthorMiss]:
    """The authors whom ISBNdb did not know within MISS_REMEMBER_DAYS."""
    return AuthorMiss.objects.filter(asked_at__gt=Now() - timedelta(days=settings.MISS_REMEMBER_DAYS))


def get_edition(isbn13: str) -> Edition | None:
    """The stored edition with its work and its authors, in order, in `author_links`."""
    return Edition.objects.select_related("work").prefetch_related("author_links__author").filter(isbn13=isbn13).first()


def last_told(isbn13: str) -> datetime | None:
    """When ISBNdb last told us of the ISBN-13, be it that it does not know it; None when it never did."""
    stored = Edition.objects.filter(pk=isbn13).values_list("synced_at", flat=True)
    missed = Miss.objects.filter(pk=isbn13).values_list("asked_at", flat=True)
    return max([*stored, *missed], default=None)
