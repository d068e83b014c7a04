"""The operations that pace.py measures: what each needs in the database, and its work.

`python -m tests.bench.pace_work NAME SIZE` does the work in a process of its own, on the configured database.
"""

import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from unittest.mock import patch

from tests.bench import scratch  # noqa: F401 isort: skip (first: it sets Django up)

from django.core.management import call_command

from alexandria.development.sandbox import answers, catalogue, isbns, listings
from alexandria.development.sandbox.catalogue import CatalogueBook
from alexandria.development.sandbox.listings import Filters
from enrichment.books.decoding import decode_books
from enrichment.books.storage import store_books
from enrichment.gateway.listings import PAGE_SIZE
from enrichment.jobs import lifecycle
from enrichment.jobs.workers import run_job
from enrichment.models import Edition, Job, QueuedIsbn
from enrichment.services.bibliographies import enrich_bibliography
from enrichment.services.enrich import enrich_isbns
from enrichment.services.queue import enqueue
from enrichment.services.releases import Wanted, enrich_new_releases
from harvest.runs import run_cron
from quota.models import Consumer

CONSUMER = "bench"
BATCH = 1000
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FIRST_YEAR = 2000  # of the new releases


@dataclass(frozen=True)
class Operation:
    """A kind of operation. `size` is in the unit of the operation: batches, pages, months or authors.

    `wanted`: the share of the pace that it has to use. `first`: the requests before it knows what else to ask for,
    which have to come one by one.
    """

    label: str
    work: Callable[[int], None]
    size: int
    short_size: int
    wanted: float = 0.90
    first: int = 0
    prepare: Callable[[int], None] = lambda _: None
    batch_price: str = "request"


def work_direct(size: int) -> None:
    """ISBNs that a client of the API waits for."""
    result = enrich_isbns(known(size), consumer=CONSUMER)
    assert result.enriched == size * BATCH


def work_job(size: int) -> None:
    """A job of ISBNs, in as many turns as it needs."""
    job = create_job(CONSUMER, known(size))
    while job.ended_at is None:
        run_job()
        job.refresh_from_db()
    assert job.state == Job.State.SUCCEEDED, job.error


def prepare_flush(size: int) -> None:
    enqueue(known(size), priority=QueuedIsbn.Priority.NORMAL, consumer=CONSUMER)


def work_flush(size: int) -> None:
    """Runs of queue-flush, one after the other, until the queue is empty."""
    while QueuedIsbn.objects.exists():
        run_to_the_end("queue-flush")


def prepare_refresh(size: int) -> None:
    store_stale(filter(None, map(catalogue.find, known(size))))


def prepare_refresh_by_listings(size: int) -> None:
    store_stale(book for author in one_page_authors(size) for book in books_by(author))


def work_refresh(size: int) -> None:
    """A run of stale-refresh."""
    run_to_the_end("stale-refresh")


def work_listing(size: int) -> None:
    """The pages of an author with more books than ISBNdb lists."""
    result = enrich_bibliography(catalogue.MORE_THAN_10000, consumer=CONSUMER, max_pages=size)
    assert result.progress.pages_fetched == size


def work_releases(size: int) -> None:
    """The new releases of `size` months, each of one or two pages."""
    months = [date(FIRST_YEAR + month // 12, month % 12 + 1, 1) for month in range(size)]
    result = enrich_new_releases(Wanted(months[0], months[-1], max_pages_per_month=10), consumer="cron-new-releases")
    assert result.complete, result.stopped_reason


def work_bulk(size: int) -> None:
    harvest(one_page_authors(size))


def work_large_bulk(size: int) -> None:
    harvest(authors(size, lambda books: books > PAGE_SIZE))


def run_to_the_end(cron: str) -> None:
    run = run_cron(cron, force=True)
    assert run is not None
    assert run.outcome == "succeeded", run.reason


def harvest(names: Iterable[str]) -> None:
    """`manage.py bulk_author_harvest` with a list of these authors."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file, Path(os.devnull).open("w") as nowhere:
        file.write("\n".join(names))
        file.flush()
        call_command("bulk_author_harvest", file.name, "--json", stdout=nowhere)


OPERATIONS = {
    "direct": Operation("ISBNs, waited for", work_direct, 24, 12),
    "job": Operation("job of ISBNs", work_job, 24, 12),
    "flush": Operation("flush of the queue", work_flush, 24, 12, prepare=prepare_flush),
    "refresh": Operation("refresh in batches", work_refresh, 24, 12, prepare=prepare_refresh),
    "refresh-listings": Operation(
        "refresh by listings", work_refresh, 120, 12, prepare=prepare_refresh_by_listings, batch_price="isbn"
    ),
    "listing": Operation("listing of ten pages", work_listing, 10, 10, first=1),
    "releases": Operation("new releases", work_releases, 144, 8),
    "bulk": Operation("bulk, one-page authors", work_bulk, 30, 12, wanted=0.85),
    "bulk-large": Operation("bulk, larger authors", work_large_bulk, 75, 4),
}


def create_job(consumer: str, isbns: list[str]) -> Job:
    """Creates a job of the ISBNs and tells no worker: the bench has its own."""
    with patch.object(lifecycle, "send_to_worker"):
        return lifecycle.create_job(
            consumer=Consumer.objects.get(slug=consumer), kind=Job.Kind.BATCH_DIRECT, wanted={"isbns": isbns}
        )


def known(size: int) -> list[str]:
    """ISBN-13s for `size` batches. The sandbox knows all of them."""
    return [isbns.isbn13_at(slot, position) for slot in range(7_000, 7_000 + size) for position in range(BATCH)]


def one_page_authors(count: int) -> list[str]:
    """Authors whose books fit on one page."""
    return authors(count, lambda books: 0 < books < PAGE_SIZE)


def authors(count: int, fits: Callable[[int], bool]) -> list[str]:
    """So many authors of the sandbox whose number of books fits."""
    special = {catalogue.PAGES_OVER_6_MB, catalogue.MORE_THAN_10000}
    names = (name for name, _ in catalogue.known_authors().values() if name not in special)
    return list(islice((name for name in names if fits(listings.of_author(name).page(1, 1, Filters())[1])), count))


def books_by(author: str) -> list[CatalogueBook]:
    return listings.of_author(author).page(1, PAGE_SIZE, Filters())[0]


def store_stale(books: Iterable[CatalogueBook]) -> None:
    """Stores the books as ISBNdb has them, as of long ago."""
    left = iter(books)
    while batch := [answers.book_json(book) for book in islice(left, BATCH)]:
        store_books(decode_books(json.dumps({"data": batch}).encode(), key="data").books)
    Edition.objects.update(synced_at=LONG_AGO)


def peak_memory() -> float:
    """The memory of this process at its highest, in megabytes. (`getrusage` would count that of its parent.)"""
    [peak] = re.findall(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(peak) / 1024


if __name__ == "__main__":
    logging.disable(logging.INFO)
    OPERATIONS[sys.argv[1]].work(int(sys.argv[2]))
    print(peak_memory())
