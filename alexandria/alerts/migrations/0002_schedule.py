from django.db import migrations

EVERY_SECONDS = 30
# A message that waited so long is void: others are there.
EXPIRE_SECONDS = 120


def schedule(apps, schema_editor):
    """A row that is there already stays as it is."""
    intervals = apps.get_model("django_celery_beat", "IntervalSchedule").objects
    every = {"every": EVERY_SECONDS, "period": "seconds"}
    interval = intervals.filter(**every).first() or intervals.create(**every)
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name="alerts",
        defaults={
            "task": "alexandria.alerts.tasks.check_alerts",
            "interval": interval,
            "expire_seconds": EXPIRE_SECONDS,
        },
    )


class Migration(migrations.Migration):
    dependencies = [
        ("alerts", "0001_initial"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]
    operations = [migrations.RunPython(schedule, migrations.RunPython.noop)]
