"""Reads what the plan of a refresh has to know: which authors have how many of the wanted editions."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from django.db import connection

from enrichment.models import Edition, EditionAuthor, Job, JobItem
from enrichment.selectors.books import fresh_isbns, in_parts, remembered_author_misses

_MAX_AUTHORS = 1000  # in one query
_MAX_COUNTED = 100_000
"""The editions of an author are counted up to this number."""

# Counts only as many entries of the index as can matter.
_NAMES_AND_EDITIONS = """
    SELECT author.id, author.name,
        (SELECT count(*) FROM (
            SELECT FROM enrichment_editionauthor AS link WHERE link.author_id = author.id LIMIT wanted.counted
        ) AS stored)
    FROM unnest(%s::bigint[], %s::bigint[]) AS wanted (author_id, counted)
    JOIN enrichment_author AS author ON author.id = wanted.author_id
    ORDER BY author.id"""


@dataclass(frozen=True)
class WantedAuthor:
    """An author of wanted editions."""

    name: str
    """As ISBNdb wrote it first."""
    editions: int
    """How many are stored, wanted or not."""
    isbns: tuple[str, ...]
    """The wanted editions, in the given order."""


@dataclass(frozen=True)
class SyncTimes:
    """The times of stored editions at one moment, to see later which of them ISBNdb has sent since."""

    synced: dict[str, datetime]
    updated: dict[str, datetime]

    def synced_since(self) -> set[str]:
        """The editions that ISBNdb has sent since."""
        now = sync_times(self.synced)
        return {isbn for isbn, moment in now.synced.items() if moment != self.synced[isbn]}

    def updated_since(self) -> set[str]:
        """The editions whose content has changed since."""
        now = sync_times(self.synced)
        return {isbn for isbn, moment in now.updated.items() if moment != self.updated[isbn]}


def sync_times(isbns: Collection[str]) -> SyncTimes:
    """The times of the stored editions among `isbns`, as they are now."""
    rows = list(Edition.objects.filter(isbn13__any_of=isbns).values_list("isbn13", "synced_at", "updated_at"))
    return SyncTimes({isbn: synced for isbn, synced, _ in rows}, {isbn: updated for isbn, _, updated in rows})


def without_fresh(isbns: Sequence[str]) -> list[str]:
    """The ISBN-13s that have no fresh edition, in the given order."""
    rest: list[str] = []
    for part in in_parts(isbns):
        fresh = fresh_isbns(part)
        rest += [isbn for isbn in part if isbn not in fresh]
    return rest


def pending_by_the_same_authors(job: Job, isbns: Collection[str]) -> list[str]:
    """The pending ISBN-13s of the job that are stored and have an author of one of the stored `isbns`, in order."""
    authors = EditionAuthor.objects.filter(edition__isbn13__any_of=isbns).values("author_id")
    editions = EditionAuthor.objects.filter(author_id__in=authors).values("edition_id")
    # The index by ISBN excludes empty ones, and PostgreSQL cannot see that there are none.
    pending = job.items.filter(state=JobItem.State.PENDING, isbn13__in=editions).exclude(isbn13="")
    return list(pending.order_by("position").values_list("isbn13", flat=True))


def wanted_authors(isbns: Sequence[str], *, min_editions: int, page_size: int) -> Iterator[WantedAuthor]:
    """The authors of at least `min_editions` of the stored editions among `isbns`, without those remembered as unknown.

    An author whose wanted editions would fill less than one of `page_size` in a page is counted only up to there.
    """
    by_author: defaultdict[int, list[str]] = defaultdict(list)
    for part in in_parts(isbns):
        links = EditionAuthor.objects.filter(edition__isbn13__any_of=part).order_by()
        for author, isbn in links.values_list("author_id", "edition_id"):
            by_author[author].append(isbn)
    several = ((author, editions) for author, editions in by_author.items() if len(editions) >= min_editions)
    while some := dict(islice(several, _MAX_AUTHORS)):
        yield from _part(some, page_size)


def _part(by_author: dict[int, list[str]], page_size: int) -> Iterator[WantedAuthor]:
    counted = [min(page_size * len(isbns), _MAX_COUNTED) for isbns in by_author.values()]
    with connection.cursor() as cursor:
        cursor.execute(_NAMES_AND_EDITIONS, [list(by_author), counted])
        rows: list[tuple[int, str, int]] = cursor.fetchall()
    names = [name for _, name, _ in rows]
    unknown = set(remembered_author_misses().filter(name__any_of=names).values_list("name", flat=True))
    for author, name, editions in rows:
        if name not in unknown:
            yield WantedAuthor(name, editions, tuple(by_author[author]))
