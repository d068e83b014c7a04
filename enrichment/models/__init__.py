"""The tables of enrichment."""

from enrichment.models.books import Author, AuthorMiss, Edition, EditionAuthor, Miss, Work
from enrichment.models.feed import FeedFollowing
from enrichment.models.jobs import Job, JobAuthor, JobItem
from enrichment.models.lists import AuthorList, IsbnList
from enrichment.models.questions import ListedAuthor, OpenQuestion
from enrichment.models.queue import Asker, QueuedIsbn, QueuePayer, QueueState

__all__ = [
    "Asker",
    "Author",
    "AuthorList",
    "AuthorMiss",
    "Edition",
    "EditionAuthor",
    "FeedFollowing",
    "IsbnList",
    "Job",
    "JobAuthor",
    "JobItem",
    "ListedAuthor",
    "Miss",
    "OpenQuestion",
    "QueuePayer",
    "QueueState",
    "QueuedIsbn",
    "Work",
]
