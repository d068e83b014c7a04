"""The admin beyond the apps: Django's and celery-beat's own models, in its look."""

from alexandria.admin import schedule, users

__all__ = ["schedule", "users"]
