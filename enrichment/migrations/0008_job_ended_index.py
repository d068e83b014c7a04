"""So that the jobs that ended today are found without a walk through all."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("enrichment", "0007_staff_lists")]
    operations = [
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("ended_at__isnull", False)), fields=["ended_at"], name="enrichment_job_ended"
            ),
        ),
    ]
