"""What it costs to renew 100,000 stored editions by the cheapest plan, next to plain batches, at both prices.

`python -m tests.bench.refresh` creates its own database and prints the calls for each renewed edition. It exits with 1
when the plan costs too much.

An author is drawn for each edition, and for some a second one, from 20,000 authors by Zipf's law: the n-th author has
1/n as many editions as the first. ISBNdb is taken to list what is stored.
"""

import sys
import time
from collections.abc import Iterator
from itertools import accumulate
from random import Random

from tests.bench.scratch import scratch_database  # isort: skip (first: it sets Django up)

from django.db import connection
from django.test.utils import override_settings
from django.utils import timezone

from enrichment.models import Author, Edition, Work
from enrichment.selectors.books import stale_isbns
from enrichment.services.refresh_plans import plan_refresh
from tests.rows import fill

EDITIONS, AUTHORS = 100_000, 20_000
TWO_AUTHORS = 0.15  # share of the editions
MAX_SHARE = {"isbn": 0.15, "request": 1.0}
"""Of the calls of plain batches, at each price."""


def run() -> bool:
    """Prints the figures; returns False when a plan costs too much."""
    with scratch_database():
        store()
        isbns = stale_isbns(EDITIONS)
        assert len(isbns) == EDITIONS
        print(f"\n{EDITIONS:,} stale editions by {AUTHORS:,} authors (Zipf), renewed by the cheapest plan:")
        return min([show(isbns, price) for price in MAX_SHARE])


def show(isbns: list[str], price: str) -> bool:
    """Prints the plan at a price; returns False when it costs too much."""
    with override_settings(ISBNDB_BATCH_PRICE=price):
        started = time.perf_counter()
        plan = plan_refresh(isbns)
        seconds = time.perf_counter() - started
    share = plan.calls / plan.calls_by_batches
    print(
        f"  by the {price + ':':8} {plan.calls / EDITIONS:.5f} calls for each edition, next to "
        f"{plan.calls_by_batches / EDITIONS:.5f} in plain batches: ratio {share:.2f} (at most {MAX_SHARE[price]})\n"
        f"    {plan.calls:,} calls: {len(plan.listings):,} author listings for {plan.by_listings:,} editions, "
        f"batches for {len(plan.rest):,}; planned in {seconds:.1f} s"
    )
    return share <= MAX_SHARE[price]


def store() -> None:
    """Stores the editions with their authors, all of them stale."""
    long_ago = timezone.now().replace(year=2020)
    Author.objects.create(name="Author", name_key="author")
    fill(Author, AUTHORS - 1)
    times = {"synced_at": long_ago, "created_at": long_ago, "updated_at": long_ago}
    work = Work.objects.create(title="Title", title_key="title", author_key="author")
    Edition.objects.create(isbn13="9780000000000", work=work, raw={}, content_hash="0" * 32, **times)
    fill(Edition, EDITIONS - 1)
    isbns = list(Edition.objects.order_by("pk").values_list("pk", flat=True))
    authors = list(Author.objects.order_by("pk").values_list("pk", flat=True))
    with connection.cursor() as cursor, connection.wrap_database_errors:
        with cursor.copy("COPY enrichment_editionauthor (edition_id, position, author_id) FROM STDIN") as copy:
            for isbn, position, author in links(isbns, authors):
                copy.write_row((isbn, position, author))
        cursor.execute("ANALYZE")


def links(isbns: list[str], authors: list[int]) -> Iterator[tuple[str, int, int]]:
    """The ISBN-13, the position and the author of each link, always the same."""
    random = Random(1)
    weights = list(accumulate(1 / rank for rank in range(1, AUTHORS + 1)))
    for isbn in isbns:
        count = 2 if random.random() < TWO_AUTHORS else 1
        drawn = dict.fromkeys(random.choices(authors, cum_weights=weights, k=count))
        yield from ((isbn, position, author) for position, author in enumerate(drawn, start=1))


if __name__ == "__main__":
    sys.exit(0 if run() else 1)
