"""The tables of the harvest."""

from harvest.models.runs import CronState, HarvestRun

__all__ = ["CronState", "HarvestRun"]
