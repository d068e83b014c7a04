"""Reads what is stored, and what is known about ISBNs and authors."""

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
    """ISBN-13s by what is known about them. Each is in one of the three groups."""

    fresh: set[str]
    missed: set[str]
    """Unknown to ISBNdb when it was last asked, and not fresh: ISBNdb can drop a book that is stored here."""
    wanted: list[str]
    """All others, in the given order. Alexandria has to ask ISBNdb for these."""


def known_isbns(isbns: Collection[str]) -> KnownIsbns:
    """Groups the ISBN-13s by EDITION_FRESH_DAYS and MISS_REMEMBER_DAYS."""
    fresh = fresh_isbns(isbns)
    missed = set(remembered_misses().filter(isbn13__in=isbns).values_list("isbn13", flat=True)) - fresh
    return KnownIsbns(fresh, missed, [isbn for isbn in isbns if isbn not in fresh and isbn not in missed])


def fresh_editions() -> QuerySet[Edition]:
    """The editions that ISBNdb sent within EDITION_FRESH_DAYS."""
    return Edition.objects.filter(synced_at__gt=Now() - timedelta(days=settings.EDITION_FRESH_DAYS))


def fresh_isbns(isbns: Collection[str]) -> set[str]:
    """The ISBN-13s that have a stored, fresh edition."""
    return set(fresh_editions().filter(isbn13__in=isbns).values_list("isbn13", flat=True))


def remembered_misses() -> QuerySet[Miss]:
    """The ISBNs that ISBNdb did not know within MISS_REMEMBER_DAYS."""
    return Miss.objects.filter(asked_at__gt=Now() - timedelta(days=settings.MISS_REMEMBER_DAYS))


def stored_isbns(isbns: Collection[str]) -> set[str]:
    """The ISBN-13s that have a stored edition of any age."""
    return set(Edition.objects.filter(isbn13__in=isbns).values_list("isbn13", flat=True))


def stored_or_missed_isbns(isbns: Collection[str]) -> set[str]:
    """The ISBN-13s that are stored, or that ISBNdb did not know when it was last asked, at any time."""
    return stored_isbns(isbns) | set(Miss.objects.filter(isbn13__in=isbns).values_list("isbn13", flat=True))


def stale_isbns(limit: int) -> list[str]:
    """The editions older than EDITION_FRESH_DAYS, oldest first, without remembered misses (MISS_REMEMBER_DAYS)."""
    stale_since = Now() - timedelta(days=settings.EDITION_FRESH_DAYS)
    dropped = remembered_misses().filter(isbn13=OuterRef("isbn13"))
    stale = Edition.objects.filter(~Exists(dropped), synced_at__lte=stale_since).order_by("synced_at", "isbn13")
    return list(stale.values_list("isbn13", flat=True)[:limit])


def is_missed_author(name: str) -> bool:
    """Whether ISBNdb did not know the author within MISS_REMEMBER_DAYS."""
    return remembered_author_misses().filter(name_key=name_key(name)).exists()


def remembered_author_misses() -> QuerySet[AuthorMiss]:
    """The authors that ISBNdb did not know within MISS_REMEMBER_DAYS."""
    return AuthorMiss.objects.filter(asked_at__gt=Now() - timedelta(days=settings.MISS_REMEMBER_DAYS))


def get_edition(isbn13: str) -> Edition | None:
    """The stored edition with its work, and with its authors in order in `author_links`."""
    return Edition.objects.select_related("work").prefetch_related("author_links__author").filter(isbn13=isbn13).first()


def last_answered(isbn13: str) -> datetime | None:
    """When ISBNdb last answered about the ISBN-13, also that it does not know it; None when it never did."""
    stored = Edition.objects.filter(pk=isbn13).values_list("synced_at", flat=True)
    missed = Miss.objects.filter(pk=isbn13).values_list("asked_at", flat=True)
    return max([*stored, *missed], default=None)
