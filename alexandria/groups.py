"""The groups of staff. Each may do what the ones before it may."""

from collections.abc import Mapping, Sequence
from typing import Any

GROUPS = ("viewers", "operators", "managers")
"""viewers look and export; operators run, pause and release; managers set limits and consumers, and adjust."""


def grant(apps: Any, permissions: Mapping[str, Sequence[str]]) -> None:
    """Gives each group, and those above it, permissions named "<app>.<verb>_<model>"; for migrations.

    `apps`: the registry that the migration is given. Django makes permissions only after the last migration: what is
    not there yet is made here.
    """
    for lowest, names in permissions.items():
        rows = [_permission(apps, name) for name in names]
        for group in GROUPS[GROUPS.index(lowest) :]:
            apps.get_model("auth", "Group").objects.get_or_create(name=group)[0].permissions.add(*rows)


def _permission(apps: Any, name: str) -> Any:
    app, codename = name.split(".")
    verb, model = codename.split("_", 1)
    content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(app_label=app, model=model)
    return apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content_type, codename=codename, defaults={"name": f"Can {verb} {model}"}
    )[0]
