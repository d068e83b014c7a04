"""Jobs: lists of authors, pausing, commands that run a job, and turns by consumer."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("enrichment", "0003_named_at_indexes"),
        ("quota", "0006_measured_prices"),
    ]

    operations = [
        migrations.CreateModel(
            name="JobAuthor",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "job_id", "position", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "job",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="authors",
                        to="enrichment.job",
                    ),
                ),
                ("position", models.PositiveIntegerField(help_text="Position in the list, from 1.")),
                ("name", models.TextField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "not done yet"),
                            ("done", "all books fetched"),
                            ("unknown", "unknown to ISBNdb"),
                            ("cut", "more books than requested or available"),
                            ("failed", "failed"),
                        ],
                        default="pending",
                        max_length=7,
                    ),
                ),
                ("progress", models.JSONField(default=dict, help_text="Which pages are still missing.")),
                ("pages", models.PositiveIntegerField(default=0, help_text="Number of pages that ISBNdb returned.")),
                (
                    "found",
                    models.PositiveIntegerField(
                        default=0, help_text="Books that ISBNdb returned: the sum of the next five."
                    ),
                ),
                ("new", models.PositiveIntegerField(default=0)),
                ("changed", models.PositiveIntegerField(default=0)),
                ("unchanged", models.PositiveIntegerField(default=0)),
                (
                    "fresh",
                    models.PositiveIntegerField(default=0, help_text="Stored and recent enough, so left as they were."),
                ),
                ("failed", models.PositiveIntegerField(default=0)),
                ("calls", models.PositiveIntegerField(default=0)),
                ("reason", models.TextField(blank=True, help_text="Why it failed, or was cut.")),
            ],
            options={
                "ordering": ["job_id", "position"],
                "default_permissions": (),
            },
        ),
        migrations.RemoveConstraint(
            model_name="job",
            name="enrichment_job_words_known",
        ),
        migrations.RemoveConstraint(
            model_name="job",
            name="enrichment_job_state_has_its_fields",
        ),
        migrations.RemoveConstraint(
            model_name="job",
            name="enrichment_job_ended_has_time",
        ),
        migrations.AddField(
            model_name="job",
            name="attended",
            field=models.BooleanField(
                default=False,
                help_text="A command works on it, and no worker. When the command ends, it is paused.",
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="claimed_at",
            field=models.DateTimeField(blank=True, help_text="When its last turn began.", null=True),
        ),
        migrations.AddField(
            model_name="job",
            name="host",
            field=models.CharField(blank=True, help_text="The machine of the current or last runner.", max_length=255),
        ),
        migrations.AddField(
            model_name="job",
            name="label",
            field=models.CharField(
                blank=True, help_text="Where the list comes from, such as a file's name.", max_length=200
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="list_key",
            field=models.CharField(
                blank=True,
                editable=False,
                help_text="Identifies a list that is not to be paid for twice.",
                max_length=64,
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="pid",
            field=models.PositiveIntegerField(blank=True, null=True, verbose_name="process"),
        ),
        migrations.AddField(
            model_name="job",
            name="stop_requested",
            field=models.CharField(
                blank=True,
                choices=[("pause", "pause"), ("cancel", "cancel")],
                help_text="What a running job does after what is under way.",
                max_length=6,
            ),
        ),
        migrations.RunSQL(
            "UPDATE enrichment_job SET stop_requested = 'cancel' WHERE cancel_requested",
            migrations.RunSQL.noop,
        ),
        migrations.RemoveField(
            model_name="job",
            name="cancel_requested",
        ),
        migrations.AlterField(
            model_name="job",
            name="attempts",
            field=models.PositiveIntegerField(
                default=0, help_text="Claims since the last answer or release, including the current one."
            ),
        ),
        migrations.AlterField(
            model_name="job",
            name="done",
            field=models.PositiveIntegerField(default=0, help_text="Number of ISBNs, pages or authors that are done."),
        ),
        migrations.AlterField(
            model_name="job",
            name="failures",
            field=models.PositiveIntegerField(
                default=0, help_text="How often ISBNdb or the database has failed since the last answer."
            ),
        ),
        migrations.AlterField(
            model_name="job",
            name="kind",
            field=models.CharField(help_text="One of `Kind`.", max_length=16),
        ),
        migrations.AlterField(
            model_name="job",
            name="progress",
            field=models.JSONField(default=dict, help_text="State that the next runner needs."),
        ),
        migrations.AlterField(
            model_name="job",
            name="state",
            field=models.CharField(
                choices=[
                    ("queued", "queued"),
                    ("running", "running"),
                    ("waiting", "waiting"),
                    ("paused", "paused"),
                    ("succeeded", "succeeded"),
                    ("failed", "failed"),
                    ("cancelled", "cancelled"),
                ],
                default="queued",
                max_length=9,
            ),
        ),
        migrations.AlterField(
            model_name="job",
            name="total",
            field=models.PositiveIntegerField(
                default=0, help_text="Number of all ISBNs or authors, or maximum number of pages."
            ),
        ),
        migrations.AlterField(
            model_name="job",
            name="wanted",
            field=models.JSONField(help_text="The request, without its ISBNs or authors: they are in the items."),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(fields=["consumer", "-claimed_at"], name="enrichment_job_turns"),
        ),
        migrations.AddConstraint(
            model_name="job",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("on_exhausted__in", ["fail", "wait"]), ("stop_requested__in", ["", "pause", "cancel"])
                ),
                name="enrichment_job_words_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="job",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("lease_until__isnull", False),
                        ("runner__isnull", False),
                        ("started_at__isnull", False),
                        ("state", "running"),
                    ),
                    models.Q(
                        ("lease_until", None),
                        ("resume_at__isnull", False),
                        ("runner", None),
                        ("state__in", ["queued", "waiting"]),
                    ),
                    models.Q(
                        ("state__in", ["paused", "succeeded", "failed", "cancelled"]),
                        ("lease_until", None),
                        ("resume_at", None),
                        ("runner", None),
                    ),
                    _connector="OR",
                ),
                name="enrichment_job_state_has_its_fields",
            ),
        ),
        migrations.AddConstraint(
            model_name="job",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("ended_at__isnull", False), ("state__in", ["succeeded", "failed", "cancelled"])),
                    models.Q(("ended_at", None), ("state__in", ["queued", "running", "waiting", "paused"])),
                    _connector="OR",
                ),
                name="enrichment_job_ended_has_time",
            ),
        ),
        migrations.AddConstraint(
            model_name="job",
            constraint=models.UniqueConstraint(
                condition=models.Q(("ended_at", None), models.Q(("list_key", ""), _negated=True)),
                fields=("consumer", "list_key"),
                name="enrichment_job_list_once",
            ),
        ),
        migrations.AddIndex(
            model_name="jobauthor",
            index=models.Index(fields=["job", "state", "position"], name="enrichment_jobauthor_by_state"),
        ),
        migrations.AddConstraint(
            model_name="jobauthor",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["pending", "done", "unknown", "cut", "failed"])),
                name="enrichment_jobauthor_state_known",
            ),
        ),
    ]
