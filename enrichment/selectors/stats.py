"""How much is stored."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from enrichment.models import Author, Edition, Miss, QueuedIsbn, Work
from enrichment.selectors.queue import WAITING

MAX_COUNTED = 100_000
"""Of a larger table, the number of rows is PostgreSQL's estimate: counting millions takes seconds."""


@dataclass(frozen=True)
class Stats:
    """Numbers of rows."""

    books: int
    works: int
    authors: int
    misses: int
    """ISBNs that ISBNdb did not know when it was last asked."""
    queued: int
    """ISBNs in the queue, including those that failed."""
    exact: bool
    """Whether all of them are counted. An estimate is off by a few per cent."""


def get_stats() -> Stats:
    """Counts small tables and estimates large ones, in milliseconds."""
    tables: dict[str, QuerySet[Any]] = {
        "books": Edition.objects.all(),
        "works": Work.objects.all(),
        "authors": Author.objects.all(),
        "misses": Miss.objects.all(),
        "queued": QueuedIsbn.objects.all(),
    }
    counted = {name: number_of_rows(rows) for name, rows in tables.items()}
    numbers = {name: number for name, (number, _) in counted.items()}
    return Stats(**numbers, exact=all(is_exact for _, is_exact in counted.values()))


@dataclass(frozen=True)
class Catalogue:
    """What the dashboard says of the catalogue. A number that ends at MAX_COUNTED or is an estimate is not exact."""

    books: int
    is_exact: bool
    new_today: int
    queued: int
    """ISBNs that wait in the queue."""

    @property
    def more_are_new(self) -> bool:
        return self.new_today > MAX_COUNTED


def get_catalogue(*, since: datetime) -> Catalogue:
    """The size of the catalogue and of the queue, and the books that are new `since` then."""
    books, is_exact = number_of_rows(Edition.objects.all())
    # A new book is one that has changed since then, and there is an index of changes.
    new = Edition.objects.filter(updated_at__gte=since, created_at__gte=since).order_by().values("pk")
    waiting = QueuedIsbn.objects.filter(WAITING)
    return Catalogue(books, is_exact, new[: MAX_COUNTED + 1].count(), number_of_rows(waiting)[0])


def number_of_rows(rows: QuerySet[Any]) -> tuple[int, bool]:
    """The number of rows, and whether they were counted."""
    rows = rows.order_by()
    counted = rows.values("pk")[: MAX_COUNTED + 1].count()
    if counted <= MAX_COUNTED:
        return counted, True
    [explained] = json.loads(rows.explain(format="json"))
    return max(counted, explained["Plan"]["Plan Rows"]), False
