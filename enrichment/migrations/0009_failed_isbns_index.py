"""Finds the ISBNs of the queue that have failed. The table can be big, so the index is made while others write."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("enrichment", "0008_askers")]
    operations = [
        AddIndexConcurrently(
            model_name="queuedisbn",
            index=models.Index(
                condition=models.Q(("attempts__gte", 8)), fields=["isbn13"], name="enrichment_queued_failed"
            ),
        )
    ]
