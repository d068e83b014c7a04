"""Only the tasks of the registry run periodically, with their own arguments, and not more often than each allows."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler

from alexandria.celery import app
from harvest.crons.registry import CRONS, PLAIN_TASKS, Cron
from harvest.models import CronState, HarvestRun
from harvest.periodic import RegistryScheduler, refusal
from harvest.schedules import claim_tick
from harvest.tasks import run_cron
from tests.fixtures import NOON, At

CRON = "harvest.tasks.run_cron"


def runs() -> int:
    return sum(1 + run.repeats for run in HarvestRun.objects.all())


@pytest.mark.usefixtures("defaults")
def test_the_rows_of_the_registry_may_run_and_beat_sends_them() -> None:
    rows = list(PeriodicTask.objects.all())
    assert {each.name for each in rows} == {*CRONS, *PLAIN_TASKS}
    assert [refusal(each) for each in rows] == [""] * len(rows)
    with patch.object(DatabaseScheduler, "enabled_models_qs", lambda beat: beat.Model.objects.enabled()):  # at any hour
        assert set(RegistryScheduler(app=app, lazy=True).all_as_schedule()) == {*CRONS, *PLAIN_TASKS}


@pytest.mark.parametrize(
    "fields",
    [
        {"task": "enrichment.tasks.run_job", "args": "[1]"},
        {"task": "celery.backend_cleanup", "args": "[]"},
        {"task": "alexandria.alerts.tasks.check_alerts", "args": "[1]"},
        {"args": "[]"},
        {"args": "nonsense"},
        {"args": '["no such cron"]'},
        {"args": '["reconciliation", "queue-flush"]'},
        {"kwargs": '{"scheduled": false}'},
        {"args": "[]", "kwargs": '{"name": "reconciliation", "scheduled": false}'},
        {"headers": '{"retries": 1}'},
        {"queue": "jobs"},
        {"routing_key": "jobs"},
        {"interval": {"every": 2, "period": "seconds"}},
        {"interval": {"every": 1, "period": "microseconds"}},
        {"crontab": {"minute": "*"}},
        {"crontab": {"minute": "0,58", "hour": "0,23"}},
    ],
)
def test_no_other_task_or_argument_runs_and_none_too_often(db: None, fields: dict[str, Any]) -> None:
    schedule: dict[str, Any] = {"interval": IntervalSchedule.objects.create(every=10, period="minutes")}
    if "crontab" in fields:
        schedule = {"crontab": CrontabSchedule.objects.create(**fields["crontab"])}
    if "interval" in fields:
        schedule = {"interval": IntervalSchedule.objects.create(**fields["interval"])}
    row = PeriodicTask(**{"name": "odd", "task": CRON, "args": '["reconciliation"]'} | fields | schedule)
    assert refusal(row)
    PeriodicTask.objects.bulk_create([row])  # as an older release or SQL can have made it
    assert RegistryScheduler(app=app, lazy=True).all_as_schedule() == {}


@pytest.mark.usefixtures("defaults")
def test_what_a_cron_does_every_ten_minutes_no_schedule_makes_it_do_every_two_seconds(at: At) -> None:
    every_two_seconds = IntervalSchedule.objects.create(every=2, period="seconds")
    PeriodicTask.objects.filter(name__in=["reconciliation", "ledger-check"]).update(
        crontab=None, interval=every_two_seconds
    )

    def ticks(cron: Cron) -> int:
        """How many of 23 messages within 45 seconds start a run."""
        at_least = timedelta(seconds=cron.min_seconds)
        CronState.objects.update(last_tick_at=None)
        times = [NOON + timedelta(seconds=2 * number) for number in range(23)]
        return sum(claim_tick(cron.name, now=now, at_least=at_least) for now in times)

    reconciliation = CRONS["reconciliation"]
    assert (ticks(replace(reconciliation, min_seconds=0)), ticks(reconciliation)) == (23, 1)

    for second in (0, 2, 4):
        at(second)
        run_cron("ledger-check")
    assert runs() == 1


@pytest.mark.usefixtures("defaults")
def test_a_person_runs_a_cron_once_a_minute(at: At) -> None:
    for second in range(0, 45, 2):
        at(second)
        run_cron("expire-leases", scheduled=False)
    assert runs() == 1
    at(61)
    run_cron("expire-leases", scheduled=False)
    assert runs() == 2
