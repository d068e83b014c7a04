"""The tables of enriching."""

from enrichment.models.books import Author, AuthorMiss, Edition, EditionAuthor, Miss, Work
from enrichment.models.jobs import Job, JobItem

__all__ = ["Author", "AuthorMiss", "Edition", "EditionAuthor", "Job", "JobItem", "Miss", "Work"]
