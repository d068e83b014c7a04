from django.apps import AppConfig


class AlexandriaConfig(AppConfig):
    name = "alexandria"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Every process needs our Celery application before it queues a task: shared_task binds to it. drf-spectacular
        # finds the extensions of the schema only when their module is imported.
        from alexandria import celery  # noqa: F401, PLC0415
        from alexandria.api import schema  # noqa: F401, PLC0415
