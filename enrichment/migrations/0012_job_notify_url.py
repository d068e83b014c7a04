"""Jobs name the address to which their end is reported."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("enrichment", "0011_duplicate_items"),
    ]

    operations = [
        migrations.AddField(
            model_name="job",
            name="notify_url",
            field=models.CharField(
                blank=True,
                db_default="",
                help_text="Where it is reported that the job has succeeded, failed or begun to wait. Empty: the "
                "address of its consumer, if it has one.",
                max_length=1000,
                verbose_name="address for messages",
            ),
        ),
    ]
