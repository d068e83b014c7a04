from django.apps import AppConfig

from alexandria.common.migrate import after_migrate


class EnrichmentConfig(AppConfig):
    name = "enrichment"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from enrichment.defaults import ensure_defaults  # noqa: PLC0415 - it imports models

        after_migrate(self, ensure_defaults)
