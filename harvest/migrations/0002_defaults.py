"""The consumers and schedules that exist from the start. Rows that are there already stay as they are."""

import json

from django.db import migrations

CRON_CONSUMERS = (
    *("cron-new-releases", "cron-stale-refresh", "cron-update-feed", "cron-queue-flush", "cron-reconciliation"),
)
CONSUMERS = {slug: {"kind": "cron", "floor": 1000} for slug in CRON_CONSUMERS} | {
    "bulk-author": {"kind": "bulk", "floor": 2000, "cap_per_operation": 100},
    "smoke-refused": {"kind": "api", "daily_budget": 0},
}

# Minute and hour, UTC; or every so many seconds.
CRONTABS = {
    "update-feed": ("10", "2"),
    "new-releases": ("10", "3"),
    "stale-refresh": ("10", "4"),
    "open-ledger": ("0,1,10,20,30,40,50", "*"),  # again a minute after midnight, lest beat's clock be ahead
    "reconciliation": ("5,15,25,35,45,55", "*"),
    "ledger-check": ("20", "0"),
    "prune-journal": ("40", "0"),
}
INTERVALS = {"queue-flush": 2, "expire-leases": 60}
# A message that waited so long is void: others are there. So far may beat's clock be behind the workers'. What comes
# late, all at once, is one tick.
EXPIRE_SECONDS = 120
RESUME_JOBS = ("resume-jobs", "enrichment.tasks.resume_jobs", 60)


def create(apps, schema_editor):
    consumers = apps.get_model("quota", "Consumer").objects
    for slug, fields in CONSUMERS.items():
        consumers.get_or_create(slug=slug, defaults=fields)

    states = apps.get_model("harvest", "CronState").objects
    for name in (*CRONTABS, *INTERVALS):
        states.get_or_create(name=name)

    tasks = apps.get_model("django_celery_beat", "PeriodicTask").objects

    def schedule(name, task, args, **when):
        tasks.get_or_create(name=name, defaults={"task": task, "args": json.dumps(args), **when})

    def every(seconds):
        intervals = apps.get_model("django_celery_beat", "IntervalSchedule").objects
        return {"interval": first(intervals, every=seconds, period="seconds"), "expire_seconds": EXPIRE_SECONDS}

    for name, (minute, hour) in CRONTABS.items():
        crontabs = apps.get_model("django_celery_beat", "CrontabSchedule").objects
        fields = {"day_of_week": "*", "day_of_month": "*", "month_of_year": "*", "timezone": "UTC"}
        crontab = first(crontabs, minute=minute, hour=hour, **fields)
        schedule(name, "harvest.tasks.run_cron", [name], crontab=crontab)
    for name, seconds in INTERVALS.items():
        schedule(name, "harvest.tasks.run_cron", [name], **every(seconds))
    name, task, seconds = RESUME_JOBS
    schedule(name, task, [], **every(seconds))


def first(rows, **fields):
    """As get_or_create, for tables in which people may have made a row twice."""
    return rows.filter(**fields).first() or rows.create(**fields)


class Migration(migrations.Migration):
    dependencies = [
        ("harvest", "0001_initial"),
        ("quota", "0002_functions"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
