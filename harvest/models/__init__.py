"""The tables, a module for each part."""

from harvest.models.bulk import BulkAuthor, BulkHarvest

__all__ = ["BulkAuthor", "BulkHarvest"]
