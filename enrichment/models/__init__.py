"""The tables of enriching."""

from enrichment.models.books import Author, AuthorMiss, Edition, EditionAuthor, Miss, Work
from enrichment.models.jobs import IsbnList, Job, JobItem
from enrichment.models.queue import QueueState, Wish

__all__ = [
    "Author",
    "AuthorMiss",
    "Edition",
    "EditionAuthor",
    "IsbnList",
    "Job",
    "JobItem",
    "Miss",
    "QueueState",
    "Wish",
    "Work",
]
