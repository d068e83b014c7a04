"""The pages of the admin, a module for each part."""

from enrichment.admin import books, queue

__all__ = ["books", "queue"]
