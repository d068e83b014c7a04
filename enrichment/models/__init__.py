"""The tables of enriching."""

from enrichment.models.books import Author, AuthorMiss, Edition, EditionAuthor, Miss, Work
from enrichment.models.jobs import Job, JobItem
from enrichment.models.queue import QueueState, Wish

__all__ = ["Author", "AuthorMiss", "Edition", "EditionAuthor", "Job", "JobItem", "Miss", "QueueState", "Wish", "Work"]
