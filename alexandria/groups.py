"""The groups of staff. Each group has the permissions of the groups before it."""

from collections.abc import Mapping, Sequence
from typing import Any

GROUPS = ("viewers", "operators", "managers")
"""Viewers read and export. Operators run, pause and release. Managers change limits, consumers and the ledger."""


def grant(apps: Any, permissions: Mapping[str, Sequence[str]]) -> None:
    """Gives permissions ("<app>.<verb>_<model>") to each group and the groups after it. For migrations.

    `apps`: the registry that the migration receives. Django creates permissions only after the last migration, so this
    creates the ones that are missing.
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
