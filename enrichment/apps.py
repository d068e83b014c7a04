from django.apps import AppConfig

import alexandria.common.lookups  # noqa: F401 (registers the lookup)
from alexandria.common.migrate import after_migrate


class EnrichmentConfig(AppConfig):
    name = "enrichment"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from enrichment.defaults import ensure_defaults  # noqa: PLC0415 - it imports models

        after_migrate(self, ensure_defaults)
