"""The queue: each consumer that asks for an ISBN has a row of its own, because it pays for its own ISBNs."""

import django.db.models.deletion
from django.db import migrations, models

# The first caller was known, with the highest priority and the earliest due time of all callers.
KEEP_FIRST_CALLER = """
    INSERT INTO enrichment_asker (isbn13, consumer_id, priority, source, asked_at, due_at)
    SELECT isbn13, consumer_id, priority, source, asked_at, due_at FROM enrichment_queuedisbn"""


class Migration(migrations.Migration):
    dependencies = [
        ("enrichment", "0007_raw_lz4"),
        ("quota", "0007_shares"),
    ]

    operations = [
        migrations.CreateModel(
            name="Asker",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("priority", models.PositiveSmallIntegerField(choices=[(0, "low"), (1, "normal"), (2, "high")])),
                ("source", models.CharField(blank=True, help_text="The purpose that it gave first.", max_length=100)),
                ("asked_at", models.DateTimeField(help_text="When it first asked.")),
                (
                    "due_at",
                    models.DateTimeField(help_text="From then on the ISBN is sent even if no batch is full."),
                ),
                (
                    "consumer",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="quota.consumer",
                    ),
                ),
                (
                    "queued",
                    models.ForeignKey(
                        db_column="isbn13",
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="askers",
                        to="enrichment.queuedisbn",
                    ),
                ),
            ],
            options={
                "ordering": ["asked_at", "id"],
                "indexes": [
                    models.Index(fields=["consumer", "due_at"], name="enrichment_asker_due"),
                    models.Index(fields=["consumer", "priority", "due_at", "queued"], name="enrichment_asker_in_turn"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("queued", "consumer"), name="enrichment_asker_once"),
                    models.CheckConstraint(
                        condition=models.Q(("priority__in", [0, 1, 2])), name="enrichment_asker_priority_known"
                    ),
                ],
            },
        ),
        migrations.RunSQL(KEEP_FIRST_CALLER, migrations.RunSQL.noop),
        migrations.RemoveConstraint(model_name="queuedisbn", name="enrichment_queuedisbn_priority_known"),
        migrations.RemoveField(model_name="queuedisbn", name="consumer"),
        migrations.RemoveField(model_name="queuedisbn", name="due_at"),
        migrations.RemoveField(model_name="queuedisbn", name="priority"),
        migrations.RemoveField(model_name="queuedisbn", name="source"),
        migrations.CreateModel(
            name="QueuePayer",
            fields=[
                (
                    "consumer",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="quota.consumer",
                    ),
                ),
                ("chosen_at", models.DateTimeField()),
            ],
        ),
        migrations.AlterField(
            model_name="queuestate",
            name="failures",
            field=models.PositiveIntegerField(default=0, help_text="Number of failed flushes in a row."),
        ),
    ]
