from django.apps import AppConfig


class AlertsConfig(AppConfig):
    name = "alexandria.alerts"
    default_auto_field = "django.db.models.BigAutoField"
