"""The tables of enriching."""

from enrichment.models.books import Author, AuthorMiss, Edition, EditionAuthor, Miss, Work
from enrichment.models.queue import QueueState, Wish

__all__ = ["Author", "AuthorMiss", "Edition", "EditionAuthor", "Miss", "QueueState", "Wish", "Work"]
