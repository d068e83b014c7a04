"""The admin beyond the apps: its frame, index and alerts, and Django's and celery-beat's own models in its look."""

from alexandria.admin import alerts, changes, dashboard, schedule, users

__all__ = ["alerts", "changes", "dashboard", "schedule", "users"]
