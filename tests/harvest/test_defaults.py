"""What exists from the start: consumers, schedules, and a task for each schedule."""

import json
import re

import pytest
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from alexandria.celery import app
from alexandria.env import BASE_DIR
from harvest.crons.registry import CRONS, PLAIN_TASKS, PlainTask, register
from harvest.defaults import ensure_defaults
from harvest.models import CronState
from harvest.schedules import TASK
from quota.models import Consumer

pytestmark = pytest.mark.usefixtures("defaults")


def counts() -> list[int]:
    models = (PeriodicTask, CrontabSchedule, IntervalSchedule, CronState, Consumer)
    return [model.objects.count() for model in models]


def delete_all() -> None:
    for model in (PeriodicTask, CronState, Consumer):
        model.objects.all().delete()


def test_each_cron_has_a_consumer_with_a_floor_a_schedule_and_a_state() -> None:
    payers = {cron.consumer for cron in CRONS.values() if cron.consumer}
    made = Consumer.objects.filter(kind="cron")
    assert payers <= {consumer.slug for consumer in made}
    assert {consumer.floor for consumer in made} == {1000}
    rows = PeriodicTask.objects.filter(task=TASK)
    assert {name for row in rows for name in json.loads(row.args)} == set(CRONS)
    assert {row.expire_seconds for row in PeriodicTask.objects.exclude(interval=None)} == {3600}
    assert set(CronState.objects.values_list("name", flat=True)) == set(CRONS)


def test_the_bulk_harvest_leaves_more_calls_free_and_smoke_tests_have_a_consumer_that_is_always_refused() -> None:
    bulk, refused = (Consumer.objects.get(slug=slug) for slug in ("bulk-author", "smoke-refused"))
    assert (bulk.kind, bulk.floor, bulk.cap_per_operation) == ("bulk", 2000, 100)
    assert (refused.kind, refused.floor, refused.daily_budget) == ("api", 0, 0)


def test_every_scheduled_task_exists() -> None:
    app.loader.import_default_modules()
    scheduled = set(PeriodicTask.objects.values_list("task", flat=True))
    assert scheduled == {TASK} | {plain.task for plain in PLAIN_TASKS.values()}
    assert scheduled <= set(app.tasks)


def test_jobs_are_resumed_every_5_seconds_and_alerts_are_checked_every_30_seconds() -> None:
    rows = PeriodicTask.objects.exclude(task=TASK).values_list("name", "task", "interval__every", "interval__period")
    assert set(rows) == {
        ("resume-jobs", "enrichment.tasks.resume_jobs", 5, "seconds"),
        ("alerts", "alexandria.alerts.tasks.check_alerts", 30, "seconds"),
    }


def test_migrate_changes_nothing_that_somebody_has_edited_or_switched_off() -> None:
    Consumer.objects.filter(slug="bulk-author").update(floor=5, active=False)
    row = PeriodicTask.objects.get(name="new-releases")
    row.crontab, row.interval, row.enabled = None, IntervalSchedule.objects.create(every=2, period="hours"), False
    row.save()
    PeriodicTask.objects.filter(name="alerts").update(name="watch", enabled=False)
    PeriodicTask.objects.filter(name="update-feed").update(name="the feed", args="[]", kwargs='{"name": "update-feed"}')
    CronState.objects.filter(name="update-feed").update(cursor={"since": "2026-05-01"})
    before = counts()

    ensure_defaults()

    assert counts() == before
    row.refresh_from_db()
    assert (row.enabled, row.crontab, row.interval.every) == (False, None, 2)
    assert Consumer.objects.filter(slug="bulk-author", floor=5, active=False).exists()
    assert CronState.objects.get(name="update-feed").cursor == {"since": "2026-05-01"}


@pytest.mark.slow
def test_migrate_makes_deleted_consumers_and_schedules_again() -> None:
    call_command("migrate", verbosity=0)
    before = counts()
    PeriodicTask.objects.filter(name__in=["new-releases", "resume-jobs"]).delete()
    Consumer.objects.filter(slug="bulk-author").delete()
    call_command("migrate", verbosity=0)
    assert counts() == before


def test_a_partial_migration_and_a_flush_make_no_rows() -> None:
    delete_all()
    migrations = MigrationRecorder(connection)
    [newest] = MigrationLoader(connection).graph.leaf_nodes("harvest")
    migrations.record_unapplied(*newest)
    try:
        emit_post_migrate_signal(0, False, "default", plan=[])  # as `migrate quota` does
    finally:
        migrations.record_applied(*newest)
    assert not PeriodicTask.objects.exists()
    emit_post_migrate_signal(0, False, "default")  # as `flush` does
    assert not PeriodicTask.objects.exists()


def test_two_crons_cannot_have_one_name() -> None:
    with pytest.raises(ValueError, match="two crons 'new-releases'"):
        register(PlainTask(name="new-releases", description="", schedule=CRONS["new-releases"].schedule, task="x"))


def test_the_documentation_lists_the_registry() -> None:
    page = (BASE_DIR / "docs" / "harvesting.md").read_text()
    shown = re.findall(r"^\| `([a-z-]+)` \| ([^|`\n]+) \| ([^|`\n]+) \|$", page, re.MULTILINE)
    entries = [*CRONS.values(), *PLAIN_TASKS.values()]
    assert shown == [(entry.name, str(entry.schedule), entry.description) for entry in entries]
    payers = re.findall(r"^\| `([a-z-]+)` \| `([a-z-]+)` \|", page, re.MULTILINE)
    assert payers == [(cron.name, cron.consumer) for cron in CRONS.values() if cron.consumer]
