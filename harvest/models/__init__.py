"""The tables, one module per part."""

from harvest.models.bulk import BulkAuthor, BulkHarvest
from harvest.models.runs import CronState, HarvestRun

__all__ = ["BulkAuthor", "BulkHarvest", "CronState", "HarvestRun"]
