"""A text that is no user's name is not kept as it was typed: it may be a password."""

from typing import Any

from django.conf import settings
from django.db import migrations, models


def forget_typed_texts(apps: Any, _: Any) -> None:
    """Deletes the attempts with names that no user has: their failures counted for a day at most."""
    users = apps.get_model("auth", "User").objects.values("username")
    apps.get_model("logins", "LogIn").objects.exclude(username__in=users).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("logins", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterField(
            model_name="login",
            name="username",
            field=models.CharField(
                help_text="The user. Of a name that no user has: a hash, as it may be a password.", max_length=150
            ),
        ),
        migrations.RunPython(forget_typed_texts, migrations.RunPython.noop),
    ]
