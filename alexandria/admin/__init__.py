"""The admin pages that belong to no app: the dashboard, the history of changes, users, and schedules."""

from alexandria.admin import changes, schedule, users
from alexandria.admin.dashboard import views

__all__ = ["changes", "schedule", "users", "views"]
