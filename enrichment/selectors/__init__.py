"""Everything that only reads books, jobs and the queue."""

from enrichment.selectors.books import (
    KnownIsbns,
    fresh_editions,
    fresh_isbns,
    get_edition,
    is_missed_author,
    isbns_heard_of,
    known_isbns,
    remembered_author_misses,
    remembered_misses,
    stale_isbns,
    stored_isbns,
)
from enrichment.selectors.catalogue import (
    find_authors,
    find_books,
    find_works,
    get_author,
    get_work,
    isbns_of,
    top_authors,
    with_editions,
)
from enrichment.selectors.jobs import get_job, item_counts, job_calls_left, job_eta, job_failures, jobs_of, jobs_under_way
from enrichment.selectors.plans import IsbnPlan, plan_isbns
from enrichment.selectors.queue import get_queue, is_flush_due, next_batch, queue_warning

__all__ = [
    "IsbnPlan",
    "KnownIsbns",
    "find_authors",
    "find_books",
    "find_works",
    "fresh_editions",
    "fresh_isbns",
    "get_author",
    "get_edition",
    "get_job",
    "get_queue",
    "get_work",
    "is_flush_due",
    "is_missed_author",
    "isbns_heard_of",
    "isbns_of",
    "item_counts",
    "job_calls_left",
    "job_eta",
    "job_failures",
    "jobs_of",
    "jobs_under_way",
    "known_isbns",
    "next_batch",
    "plan_isbns",
    "queue_warning",
    "remembered_author_misses",
    "remembered_misses",
    "stale_isbns",
    "stored_isbns",
    "top_authors",
    "with_editions",
]
