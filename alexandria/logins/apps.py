from django.apps import AppConfig


class LoginsConfig(AppConfig):
    name = "alexandria.logins"
    default_auto_field = "django.db.models.BigAutoField"
