"""The tables."""

from harvest.models.runs import CronState, HarvestRun

__all__ = ["CronState", "HarvestRun"]
