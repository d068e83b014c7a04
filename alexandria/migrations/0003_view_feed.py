"""Lets every group of staff see the misses of authors, and how long the feed has been followed."""

from django.db import migrations

from alexandria.groups import grant

PERMISSIONS = {"viewers": ["enrichment.view_authormiss", "enrichment.view_feedfollowing"]}


def extend_groups(apps, schema_editor):
    grant(apps, PERMISSIONS)


class Migration(migrations.Migration):
    dependencies = [("alexandria", "0002_reopen"), ("enrichment", "0002_misses_and_feed")]
    operations = [migrations.RunPython(extend_groups, migrations.RunPython.noop)]
