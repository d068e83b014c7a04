from typing import Any

from django.db import migrations, models
from django.db.models import F


def as_many_as_now(apps: Any, schema_editor: Any) -> None:
    apps.get_model("quota", "Reservation").objects.update(asked=F("calls"))


class Migration(migrations.Migration):
    dependencies = [("quota", "0006_refusals")]
    operations = [
        migrations.AddField(
            model_name="reservation",
            name="asked",
            field=models.IntegerField(help_text="Calls set aside at first.", null=True),
        ),
        migrations.RunPython(as_many_as_now, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="reservation",
            name="asked",
            field=models.IntegerField(help_text="Calls set aside at first."),
        ),
    ]
