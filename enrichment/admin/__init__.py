"""The pages of the admin, a module for each part."""

from enrichment.admin import books, calls, jobs, queue

__all__ = ["books", "calls", "jobs", "queue"]
