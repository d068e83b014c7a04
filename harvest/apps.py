from django.apps import AppConfig

from alexandria.common.migrate import after_migrate


class HarvestConfig(AppConfig):
    name = "harvest"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from harvest.defaults import ensure_defaults  # noqa: PLC0415 - it imports models

        after_migrate(self, ensure_defaults)
