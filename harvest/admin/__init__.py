"""The pages of the admin, a module for each part."""

from harvest.admin import bulk, runs

__all__ = ["bulk", "runs"]
