from django.apps import AppConfig


class AlertsConfig(AppConfig):
    name = "alexandria.alerts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from alexandria.alerts.job_events import listen  # noqa: PLC0415 - it imports models
        from harvest.crons.registry import Every, PlainTask, register  # noqa: PLC0415 - it imports models

        listen()
        register(
            PlainTask(
                name="alerts",
                description="Opens and recovers alerts, and sends the messages that are due.",
                schedule=Every(seconds=30),
                min_seconds=10,
                task="alexandria.alerts.tasks.check_alerts",
            )
        )
