"""Managers may open a closed day again."""

from django.db import migrations

from alexandria.groups import grant

PERMISSIONS = {"managers": ["quota.reopen_dailyledger"]}


def grant_reopening(apps, schema_editor):
    grant(apps, PERMISSIONS)


class Migration(migrations.Migration):
    dependencies = [("alexandria", "0001_groups"), ("quota", "0003_end_of_day")]
    operations = [migrations.RunPython(grant_reopening, migrations.RunPython.noop)]
