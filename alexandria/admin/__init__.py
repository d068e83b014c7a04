"""The admin beyond the apps: its frame and index, and Django's and celery-beat's own models in its look."""

from alexandria.admin import changes, schedule, users
from alexandria.admin.dashboard import views

__all__ = ["changes", "schedule", "users", "views"]
