"""It also ran an earlier version of quota/sql/functions.sql. 0011_comments runs the file now."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("quota", "0009_figures_once"),
    ]

    operations = [
        migrations.AddField(
            model_name="dailyledger",
            name="paused_reason",
            field=models.TextField(blank=True, db_default=""),
        ),
        migrations.AddField(
            model_name="dailyledger",
            name="paused_until",
            field=models.DateTimeField(
                blank=True,
                help_text="Nothing is sent before, because of the reason. Empty: there was no pause.",
                null=True,
            ),
        ),
    ]
