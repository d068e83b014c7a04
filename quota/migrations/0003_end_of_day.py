import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

FILL_LEFT = 'UPDATE quota_reconciliation SET "left" = greatest(0, total - spent)'
"""Of the answers before this migration, only the total and the count are known."""


class Migration(migrations.Migration):
    dependencies = [
        ("quota", "0002_functions"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.AlterModelOptions(
            name="dailyledger",
            options={"ordering": ["-day"], "permissions": [("reopen_dailyledger", "Can open a closed day again")]},
        ),
        migrations.AddField(
            model_name="dailyledger",
            name="settling_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When a process last asked ISBNdb's counter what an unclear answer means.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="dailyledger",
            name="closed_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When ISBNdb reported that its quota of the day is used up. Empty: open.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="call",
            name="outcome",
            field=models.CharField(
                choices=[
                    ("unknown", "unknown (dispatched, no outcome yet)"),
                    ("ok", "answered"),
                    ("not_found", "unknown to ISBNdb"),
                    ("too_fast", "refused: too fast"),
                    ("quota_exceeded", "refused: daily quota exceeded"),
                    ("refused", "refused: our key or our request"),
                    ("unclear", "refused: ISBNdb did not say why"),
                    ("server_error", "ISBNdb failed"),
                    ("timeout", "no answer in time"),
                    ("connection_failed", "no connection"),
                    ("undecodable", "answer not understood"),
                    ("not_sent", "spent, but not sent"),
                    ("external", "made outside Alexandria"),
                    ("adjusted", "corrected by a person"),
                ],
                default="unknown",
                max_length=20,
            ),
        ),
        migrations.CreateModel(
            name="Reopening",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("closed_at", models.DateTimeField(help_text="When the day was closed.")),
                ("closed_reason", models.TextField(help_text="Why it was closed.")),
                ("reopened_at", models.DateTimeField()),
                ("reason", models.TextField(help_text="Why it was opened again.")),
                (
                    "made_with",
                    models.CharField(
                        help_text="The admin, the command and the user who ran it, or a reconciliation.",
                        max_length=200,
                        verbose_name="made with",
                    ),
                ),
                (
                    "ledger",
                    models.ForeignKey(
                        db_column="day",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="reopenings",
                        to="quota.dailyledger",
                    ),
                ),
                (
                    "made_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("reason", ""), _negated=True), name="quota_reopening_has_reason"
                    )
                ],
            },
        ),
        migrations.AddField(
            model_name="reconciliation",
            name="day_change",
            field=models.CharField(
                blank=True,
                choices=[("closed", "closed"), ("reopened", "opened again")],
                default="",
                help_text="What the answer did to the day, if anything.",
                max_length=8,
                verbose_name="day",
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="reconciliation",
            name="left",
            field=models.IntegerField(
                default=0,
                help_text="Calls that, by ISBNdb's own answer, are left today.",
                verbose_name="left at ISBNdb",
            ),
            preserve_default=False,
        ),
        migrations.RunSQL(FILL_LEFT),
    ]
