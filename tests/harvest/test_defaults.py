"""What exists from the start: consumers, schedules, and a task behind each."""

import json
from importlib import import_module

import pytest
from django.apps import apps
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from alexandria.celery import app
from harvest.crons.registry import CRONS
from harvest.models import CronState
from harvest.schedules import TASK
from quota.models import Consumer

migration = import_module("harvest.migrations.0002_defaults")

pytestmark = pytest.mark.usefixtures("defaults")


def test_each_cron_has_a_consumer_with_a_floor_a_schedule_and_a_state() -> None:
    payers = {cron.consumer for cron in CRONS.values() if cron.consumer}
    made = Consumer.objects.filter(kind="cron")
    assert payers <= {consumer.slug for consumer in made}
    assert {consumer.floor for consumer in made} == {1000}
    rows = PeriodicTask.objects.filter(task=TASK)
    assert {name for row in rows for name in json.loads(row.args)} == set(CRONS)
    assert {row.expire_seconds for row in PeriodicTask.objects.exclude(interval=None)} == {120}
    assert set(CronState.objects.values_list("name", flat=True)) == set(CRONS)


def test_bulk_work_leaves_more_to_others_and_smoke_tests_have_a_consumer_that_is_always_refused() -> None:
    bulk, refused = (Consumer.objects.get(slug=slug) for slug in ("bulk-author", "smoke-refused"))
    assert (bulk.kind, bulk.floor, bulk.cap_per_operation) == ("bulk", 2000, 100)
    assert (refused.kind, refused.floor, refused.daily_budget) == ("api", 0, 0)


def test_every_scheduled_task_exists() -> None:
    app.loader.import_default_modules()
    scheduled = set(PeriodicTask.objects.values_list("task", flat=True))
    assert scheduled <= set(app.tasks)


def test_what_somebody_has_edited_or_switched_off_stays_so() -> None:
    Consumer.objects.filter(slug="bulk-author").update(floor=5, active=False)
    row = PeriodicTask.objects.get(name="new-releases")
    row.crontab, row.interval, row.enabled = None, IntervalSchedule.objects.create(every=2, period="hours"), False
    row.save()
    before = PeriodicTask.objects.count(), Consumer.objects.count(), IntervalSchedule.objects.count()

    migration.create(apps, None)

    assert before == (PeriodicTask.objects.count(), Consumer.objects.count(), IntervalSchedule.objects.count())
    row.refresh_from_db()
    assert (row.enabled, row.crontab, row.interval.every) == (False, None, 2)
    assert Consumer.objects.filter(slug="bulk-author", floor=5, active=False).exists()


def test_schedules_of_tasks_that_are_gone_are_replaced() -> None:
    PeriodicTask.objects.filter(name="expire-leases").update(task="quota.tasks.expire_leases", args="[]")
    migration.create(apps, None)
    assert PeriodicTask.objects.get(name="expire-leases").task == TASK
