"""Lets every group of staff see how the prices were measured."""

from django.db import migrations

from alexandria.groups import grant

PERMISSIONS = {"viewers": ["quota.view_pricemeasurement"]}


def extend_groups(apps, schema_editor):
    grant(apps, PERMISSIONS)


class Migration(migrations.Migration):
    dependencies = [("alexandria", "0003_view_feed"), ("quota", "0004_prices")]
    operations = [migrations.RunPython(extend_groups, migrations.RunPython.noop)]
