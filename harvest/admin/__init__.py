"""The admin pages of crons, runs and bulk harvests, one module for each part."""

from harvest.admin import bulk, runs

__all__ = ["bulk", "runs"]
