"""Misses get steps, and an author's miss is remembered by the name as it was sent. The feed can be followed.

A miss of before is at its first step: nobody knows how often ISBNdb was asked.
"""

from django.db import migrations, models

NAMED_AT = "When ISBNdb's feed named it as changed. Empty: ISBNdb has been asked since, or the feed did not name it."
STEPS = [(1, "first: a day"), (2, "second: a week"), (3, "last: MISS_REMEMBER_DAYS")]
STEP_HELP = "How long ISBNdb is not asked again."
STEP_KNOWN = models.Q(("step__in", [1, 2, 3]))
REMEMBER_BY_NAME = """
    ALTER TABLE enrichment_authormiss DROP COLUMN name_key;
    ALTER TABLE enrichment_authormiss ALTER COLUMN name TYPE text COLLATE "C";
    ALTER TABLE enrichment_authormiss ADD PRIMARY KEY (name)"""


def step() -> models.PositiveSmallIntegerField:
    return models.PositiveSmallIntegerField(choices=STEPS, db_default=1, default=1, help_text=STEP_HELP)


class Migration(migrations.Migration):
    dependencies = [("enrichment", "0001_initial")]
    operations = [
        migrations.CreateModel(
            name="FeedFollowing",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "began_at",
                    models.DateTimeField(help_text="When its first reading began. The feed names every later change."),
                ),
                (
                    "reading_since",
                    models.DateTimeField(help_text="When the latest reading began; it may not be at its end."),
                ),
                (
                    "read_up_to",
                    models.DateTimeField(
                        blank=True,
                        help_text="When the latest reading began that came to its end. Empty: none has.",
                        null=True,
                    ),
                ),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("why_ended", models.TextField(blank=True, help_text="The gap that ended it.")),
                ("ended_by", models.CharField(blank=True, help_text="The run that noticed the gap.", max_length=100)),
            ],
            options={
                "verbose_name_plural": "times of following the feed",
                "ordering": ["-id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("ended_at", None), ("why_ended", "")),
                            models.Q(("ended_at__isnull", False), models.Q(("why_ended", ""), _negated=True)),
                            _connector="OR",
                        ),
                        name="enrichment_feedfollowing_end_has_reason",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("why_ended", "")),
                        fields=("why_ended",),
                        name="enrichment_feedfollowing_one_goes_on",
                    ),
                ],
            },
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(REMEMBER_BY_NAME)],
            state_operations=[
                migrations.AlterModelOptions(
                    name="authormiss", options={"ordering": ["name"], "verbose_name_plural": "author misses"}
                ),
                migrations.RemoveField(model_name="authormiss", name="name_key"),
                migrations.AlterField(
                    model_name="authormiss",
                    name="name",
                    field=models.TextField(
                        db_collation="C",
                        help_text="The name as ISBNdb was asked for it.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
            ],
        ),
        migrations.AddField(model_name="authormiss", name="step", field=step()),
        migrations.AddField(model_name="miss", name="step", field=step()),
        migrations.AddField(
            model_name="miss",
            name="named_at",
            field=models.DateTimeField(blank=True, help_text=NAMED_AT, null=True),
        ),
        migrations.AddField(
            model_name="edition",
            name="named_at",
            field=models.DateTimeField(blank=True, help_text=NAMED_AT, null=True),
        ),
        migrations.AddConstraint(
            model_name="authormiss",
            constraint=models.CheckConstraint(condition=STEP_KNOWN, name="enrichment_authormiss_step_known"),
        ),
        migrations.AddConstraint(
            model_name="miss",
            constraint=models.CheckConstraint(condition=STEP_KNOWN, name="enrichment_miss_step_known"),
        ),
    ]
