"""The rows that exist from the start: consumers, and the schedule and state of everything in the registry."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from django.db.models import Manager
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from enrichment.models.jobs import BULK_AUTHOR
from harvest.crons.registry import CRONS, PLAIN_TASKS, At, Cron, Every, PlainTask
from harvest.models import CronState
from harvest.schedules import TASK, schedules_by_cron
from quota.models import Consumer

OTHER_CONSUMERS: Mapping[str, Mapping[str, Any]] = {
    BULK_AUTHOR: {"kind": "bulk", "floor": 2000, "cap_per_operation": 100},
    "smoke-refused": {"kind": "api", "daily_budget": 0},
}
"""Consumers that do not belong to a cron."""

EXPIRE_SECONDS = 3600
"""A message of an interval expires after this time, so that not too many wait while there is no worker.

This is also how far beat's clock may be behind the workers' clocks. A late message costs next to nothing: the first of
them takes the tick, and the others do nothing. A crontab's message has no such limit, for the same reason.
"""


def ensure_defaults() -> None:
    """Creates the missing rows and changes no other row. `migrate` calls it.

    It also creates deleted consumers and schedules again. To end a cron, pause it.
    """
    for slug, fields in _consumers():
        Consumer.objects.get_or_create(slug=slug, defaults=fields)
    CronState.objects.bulk_create([CronState(name=name) for name in CRONS], ignore_conflicts=True)
    # Schedules are found by what they run, because people may change their names.
    scheduled = schedules_by_cron()
    tasks = set(PeriodicTask.objects.values_list("task", flat=True))
    for cron in CRONS.values():
        if cron.name not in scheduled:
            _schedule(cron, TASK, [cron.name])
    for plain in PLAIN_TASKS.values():
        if plain.task not in tasks:
            _schedule(plain, plain.task, [])


def _consumers() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for cron in CRONS.values():
        if cron.consumer:
            yield cron.consumer, {"kind": "cron", "floor": cron.floor}
    yield from OTHER_CONSUMERS.items()


def _schedule(entry: Cron | PlainTask, task: str, args: list[str]) -> None:
    fields = {"task": task, "args": json.dumps(args), "description": entry.description, **_when(entry.schedule)}
    PeriodicTask.objects.get_or_create(name=entry.name, defaults=fields)


def _when(schedule: Every | At) -> dict[str, Any]:
    if isinstance(schedule, Every):
        interval = _first(IntervalSchedule.objects, every=schedule.seconds, period="seconds")
        return {"interval": interval, "expire_seconds": EXPIRE_SECONDS}
    days = {"day_of_week": "*", "day_of_month": "*", "month_of_year": "*", "timezone": "UTC"}
    return {"crontab": _first(CrontabSchedule.objects, minute=schedule.minute, hour=schedule.hour, **days)}


def _first(rows: "Manager[Any]", **fields: Any) -> Any:
    """Like get_or_create, for tables in which people can make the same row twice."""
    return rows.filter(**fields).first() or rows.create(**fields)
