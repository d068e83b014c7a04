"""Counts the items of each job, and keeps the figures of items that are deleted."""

from django.db import migrations, models

COUNT_ITEMS = """
    UPDATE enrichment_job SET item_count = items.count
    FROM (SELECT job_id, count(*) FROM enrichment_jobitem GROUP BY job_id) AS items
    WHERE items.job_id = enrichment_job.id"""


class Migration(migrations.Migration):
    dependencies = [("enrichment", "0004_jobs")]

    operations = [
        migrations.AddField(
            model_name="job",
            name="item_count",
            field=models.PositiveIntegerField(default=0, help_text="Number of its items, also after their deletion."),
        ),
        migrations.AddField(
            model_name="job",
            name="items_deleted_at",
            field=models.DateTimeField(
                blank=True, null=True, help_text="When its items were deleted, long after its end. Empty: they are not."
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="item_figures",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="Figures of its items, since they are deleted.",
            ),
        ),
        migrations.RunSQL(COUNT_ITEMS, migrations.RunSQL.noop),
    ]
