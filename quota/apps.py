from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate


class QuotaConfig(AppConfig):
    name = "quota"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if settings.DATABASE_POOLED:
            return  # other clients share the session, so nothing may be set in it. Migrations do not use the pooler
        pre_migrate.connect(_lift_the_time_limit, sender=self)
        post_migrate.connect(_restore_the_time_limit, sender=self)


def _lift_the_time_limit(*, using: str, **_: Any) -> None:
    """A migration may build an index for minutes. It still waits for a lock no longer than other statements."""
    with connections[using].cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")


def _restore_the_time_limit(*, using: str, **_: Any) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("RESET statement_timeout")
