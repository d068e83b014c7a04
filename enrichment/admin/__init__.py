"""The admin pages of the books, jobs and queue, one module for each part."""

from enrichment.admin import books, calls, jobs, queue

__all__ = ["books", "calls", "jobs", "queue"]
