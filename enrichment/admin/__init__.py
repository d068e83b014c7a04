"""The pages of the admin, a module for each part."""

from enrichment.admin import books, jobs, queue

__all__ = ["books", "jobs", "queue"]
