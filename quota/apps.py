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
            return  # the session is everybody's: what is set in it would hold for others. Migrations go past the pooler
        pre_migrate.connect(_take_your_time, sender=self)
        post_migrate.connect(_back_to_business, sender=self)


def _take_your_time(*, using: str, **_: Any) -> None:
    """A migration may build an index for minutes. It still waits for no lock longer than anybody."""
    with connections[using].cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")


def _back_to_business(*, using: str, **_: Any) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("RESET statement_timeout")
