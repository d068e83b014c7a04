"""Webhooks and messages about jobs."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("alerts", "0001_initial"),
        ("enrichment", "0012_job_notify_url"),
        ("quota", "0008_turns"),
    ]

    operations = [
        migrations.AddField(
            model_name="delivery",
            name="job",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="enrichment.job",
            ),
        ),
        migrations.AddField(
            model_name="delivery",
            name="url",
            field=models.CharField(
                blank=True,
                db_default="",
                help_text="Of the job. Empty: that of the webhook.",
                max_length=1000,
                verbose_name="address",
            ),
        ),
        migrations.AddField(
            model_name="webhook",
            name="consumer",
            field=models.OneToOneField(
                blank=True,
                help_text="It receives messages about the jobs of this consumer. Empty: it receives alerts.",
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="quota.consumer",
            ),
        ),
        migrations.AlterField(
            model_name="delivery",
            name="event",
            field=models.CharField(
                choices=[
                    ("alert.opened", "opened"),
                    ("alert.recovered", "recovered"),
                    ("alert.test", "test"),
                    ("job.succeeded", "job succeeded"),
                    ("job.failed", "job failed"),
                    ("job.waiting", "job waits"),
                ],
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="delivery",
            name="to",
            field=models.CharField(
                help_text="The name of the webhook, the host that a job names, or the e-mail addresses.", max_length=200
            ),
        ),
        migrations.AlterField(
            model_name="webhook",
            name="active",
            field=models.BooleanField(
                default=True, help_text="Sends messages. Off for a consumer: also to the addresses that its jobs name."
            ),
        ),
        migrations.AlterField(
            model_name="webhook",
            name="min_severity",
            field=models.CharField(
                choices=[("info", "info"), ("warning", "warning"), ("critical", "critical")],
                default="info",
                help_text="Alerts below it are not sent. For jobs, it means nothing.",
                max_length=8,
                verbose_name="lowest severity",
            ),
        ),
        migrations.AlterField(
            model_name="webhook",
            name="name",
            field=models.CharField(max_length=80, unique=True),
        ),
        migrations.AlterField(
            model_name="webhook",
            name="url",
            field=models.CharField(
                blank=True,
                help_text="https://… with a public IP address. The path can be secret. Empty: only jobs that name an "
                "address are reported.",
                max_length=1000,
                verbose_name="address",
            ),
        ),
        migrations.AddConstraint(
            model_name="webhook",
            constraint=models.CheckConstraint(
                condition=models.Q(("consumer__isnull", False), models.Q(("url", ""), _negated=True), _connector="OR"),
                name="alerts_webhook_for_alerts_has_address",
            ),
        ),
    ]
