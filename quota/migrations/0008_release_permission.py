from django.db import migrations, models
from django.db.models import BooleanField, ExpressionWrapper, Q


class Migration(migrations.Migration):
    """The index of the admin's list, open reservations first, takes the place of that by time alone."""

    dependencies = [("quota", "0007_reservation_asked")]
    operations = [
        migrations.AlterModelOptions(
            name="reservation",
            options={
                "ordering": ["-created_at"],
                "permissions": [("release_reservation", "Can release reservation")],
            },
        ),
        migrations.RemoveIndex(model_name="reservation", name="quota_reservation_latest"),
        migrations.AddIndex(
            model_name="reservation",
            index=models.Index(
                ExpressionWrapper(Q(state="open"), output_field=BooleanField()).desc(),
                models.F("created_at").desc(),
                name="quota_reservation_open_first",
            ),
        ),
    ]
