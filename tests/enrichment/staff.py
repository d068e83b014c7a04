"""Members of the groups of staff. Each test creates them, because the end of a test empties their tables."""

from importlib import import_module

from django.apps import apps
from django.contrib.auth.models import Group, User

STAFF_GROUPS = ("viewers", "operators", "managers")


def member(group: str) -> User:
    """A user in the group, which has the permissions of the migration."""
    import_module("alexandria.migrations.0001_groups").make_groups(apps, None)
    user = User.objects.create_user(group, is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    return user
