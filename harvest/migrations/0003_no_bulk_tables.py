"""Drops the tables of bulk harvests: a bulk harvest is a job now. Their progress is lost, the books are not."""

from django.db import migrations


def forget_permissions(apps, schema_editor):
    """Django leaves the permissions of a dropped model to the groups that have them."""
    apps.get_model("contenttypes", "ContentType").objects.filter(
        app_label="harvest", model__in=["bulkauthor", "bulkharvest"]
    ).delete()


class Migration(migrations.Migration):
    dependencies = [("harvest", "0002_read_the_feed_anew"), ("alexandria", "0001_groups")]
    operations = [
        migrations.DeleteModel("BulkAuthor"),
        migrations.DeleteModel("BulkHarvest"),
        migrations.RunPython(forget_permissions, migrations.RunPython.noop),
    ]
