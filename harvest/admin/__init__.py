"""The admin pages of crons and runs."""

from harvest.admin import runs

__all__ = ["runs"]
