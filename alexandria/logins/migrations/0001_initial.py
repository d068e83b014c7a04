"""Attempts to log in are on record."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="LogIn",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField()),
                (
                    "username",
                    models.CharField(help_text="As it was typed. There may be no such user.", max_length=150),
                ),
                ("address", models.CharField(blank=True, help_text="The IP address of the client.", max_length=39)),
                ("succeeded", models.BooleanField(default=False)),
            ],
            options={
                "verbose_name": "log-in",
                "ordering": ["-at"],
                "indexes": [
                    models.Index(fields=["username", "-at"], name="logins_login_username"),
                    models.Index(fields=["address", "-at"], name="logins_login_address"),
                    models.Index(fields=["-at"], name="logins_login_at"),
                ],
            },
        ),
    ]
