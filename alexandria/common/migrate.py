"""Rows that an app needs from the start, such as consumers and schedules: made after every `manage.py migrate`."""

from collections.abc import Callable
from typing import Any

from django.apps import AppConfig
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.loader import MigrationLoader
from django.db.models.signals import post_migrate


def after_migrate(app: AppConfig, ensure_rows: Callable[[], None]) -> None:
    """Calls `ensure_rows` after every `migrate` of the default database that leaves no migration out.

    For an app's `ready()`. `ensure_rows` must be idempotent: it makes missing rows and changes no other.

    A `flush` sends the same signal, without a plan. It makes no rows, because tests empty their tables with it.
    """

    def receive(*, using: str, plan: Any = None, **_: Any) -> None:
        if plan is not None and using == DEFAULT_DB_ALIAS and _is_up_to_date():
            ensure_rows()

    post_migrate.connect(receive, sender=app, weak=False, dispatch_uid=f"rows of {app.label}")


def _is_up_to_date() -> bool:
    """Whether every migration is applied: after a migration of one app, or back, tables can be missing."""
    loader = MigrationLoader(connections[DEFAULT_DB_ALIAS])
    return loader.applied_migrations.keys() >= set(loader.graph.leaf_nodes())
