"""Stores the lists of authors that staff enter, until their job starts."""

import uuid

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("enrichment", "0005_job_limits"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="AuthorList",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("content", models.BinaryField(help_text="The text or the file as given.")),
                (
                    "label",
                    models.CharField(help_text="Where the names come from, such as a file's name.", max_length=200),
                ),
                (
                    "max_pages",
                    models.PositiveSmallIntegerField(
                        help_text="Maximum number of pages of 1,000 books for each author."
                    ),
                ),
                ("skip_existing", models.BooleanField(default=True)),
                (
                    "made_by",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "ordering": ["-created_at"],
                "default_permissions": (),
                "indexes": [models.Index(fields=["created_at"], name="enrichment_authorlist_created")],
            },
        ),
    ]
