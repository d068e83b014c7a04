"""What ISBNdb is asked now, and the authors that it has listed lately."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("enrichment", "0013_queued_since"),
    ]

    operations = [
        migrations.CreateModel(
            name="ListedAuthor",
            fields=[
                (
                    "name",
                    models.TextField(
                        db_collation="C",
                        help_text="The name as ISBNdb was asked for it.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("listed_at", models.DateTimeField(help_text="When the last page came.")),
                (
                    "next_page",
                    models.PositiveSmallIntegerField(
                        help_text="The first page that is missing. Empty: none.", null=True
                    ),
                ),
                (
                    "stopped_reason",
                    models.CharField(blank=True, help_text="Why books are missing. Empty: none are.", max_length=100),
                ),
            ],
        ),
        migrations.CreateModel(
            name="OpenQuestion",
            fields=[
                (
                    "subject",
                    models.TextField(
                        db_collation="C",
                        help_text="What is asked, such as an ISBN-13.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("asker", models.UUIDField(help_text="Who asks.")),
                (
                    "until",
                    models.DateTimeField(help_text="After this time the asker counts as dead. It moves the time on."),
                ),
            ],
        ),
    ]
