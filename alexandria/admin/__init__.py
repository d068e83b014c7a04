"""The admin beyond the apps: alerts, and Django's and celery-beat's own models, in its look."""

from alexandria.admin import alerts, schedule, users

__all__ = ["alerts", "schedule", "users"]
