"""Finds what the feed has named. The tables are big, so the indexes are made while others write."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("enrichment", "0002_misses_and_feed")]
    operations = [
        AddIndexConcurrently(
            model_name=model,
            index=models.Index(
                condition=models.Q(("named_at__isnull", False)),
                fields=["named_at"],
                name=f"enrichment_{model}_named_at",
            ),
        )
        for model in ("edition", "miss")
    ]
