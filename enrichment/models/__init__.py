"""The tables of enriching."""

from enrichment.models.books import Author, AuthorMiss, Edition, EditionAuthor, Miss, Work

__all__ = ["Author", "AuthorMiss", "Edition", "EditionAuthor", "Miss", "Work"]
