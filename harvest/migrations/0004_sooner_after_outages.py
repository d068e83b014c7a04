"""Gives the schedules the new defaults where nobody has edited the old ones.

A message of an interval expired after two minutes, so nothing ran when the clock of a worker was further ahead of
beat's. Jobs that stood after an outage were found once a minute.
"""

from typing import Any

from django.db import migrations


def renew(apps: Any, schema_editor: Any) -> None:
    tasks = apps.get_model("django_celery_beat", "PeriodicTask").objects
    intervals = apps.get_model("django_celery_beat", "IntervalSchedule").objects
    ours = tasks.filter(task__in=["harvest.tasks.run_cron", "enrichment.tasks.resume_jobs"])
    ours.filter(interval__isnull=False, expire_seconds=120).update(expire_seconds=3600)
    minutely = ours.filter(task="enrichment.tasks.resume_jobs", interval__every=60, interval__period="seconds")
    if minutely.exists():
        often = intervals.filter(every=5, period="seconds").first() or intervals.create(every=5, period="seconds")
        minutely.update(interval=often)


class Migration(migrations.Migration):
    dependencies = [("harvest", "0003_no_bulk_tables"), ("django_celery_beat", "0019_alter_periodictasks_options")]
    operations = [migrations.RunPython(renew, migrations.RunPython.noop)]
