from django.apps import AppConfig


class AlexandriaConfig(AppConfig):
    name = "alexandria"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # So that tasks declared with shared_task find our application in every process, and the schema the API key.
        from alexandria.api import schema  # noqa: F401, PLC0415
