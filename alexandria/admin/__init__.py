"""The admin beyond the apps: its frame and index, and Django's and celery-beat's own models in its look."""

from alexandria.admin import dashboard, schedule, users

__all__ = ["dashboard", "schedule", "users"]
