"""Which periodic tasks may run: those of the registry, with their own arguments, and not too often.

The pages of the admin say so at once. What is in the table all the same, from before or by SQL, beat does not send.
"""

import json
from datetime import timedelta
from typing import Any

import structlog
from celery import schedules
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler

from harvest.crons.registry import CRONS, PLAIN_TASKS, Cron, PlainTask
from harvest.schedules import TASK

log = structlog.get_logger(__name__)

DAY = 24 * 60  # minutes


class RegistryScheduler(DatabaseScheduler):  # type: ignore[misc]
    """Sends the tasks of the registry only."""

    def enabled_models(self) -> list[PeriodicTask]:
        allowed = []
        for row in super().enabled_models():
            if why := refusal(row):
                log.error("beat.refused", periodic_task=row.name, reason=why)
            else:
                allowed.append(row)
        return allowed


def refusal(row: PeriodicTask) -> str:
    """Why this row may not run; "" when it may."""
    entry = _entry(row)
    if entry is None:
        known = ", ".join([*CRONS, *PLAIN_TASKS])
        return f"Only the periodic tasks of Alexandria can run, each with its own arguments: {known}."
    if row.queue or row.exchange or row.routing_key or row.headers not in {"", "{}"}:
        return "A periodic task has no queue, exchange, routing key or headers of its own."
    shortest = _shortest(row.schedule)
    if shortest is not None and shortest < timedelta(seconds=entry.min_seconds):
        return f"{entry.name} can run once in {entry.min_seconds:,} s at most."
    return ""


def _entry(row: PeriodicTask) -> Cron | PlainTask | None:
    """The entry of the registry that the row runs, with exactly the entry's arguments."""
    try:
        args, kwargs = json.loads(row.args or "[]"), json.loads(row.kwargs or "{}")
    except ValueError:
        return None
    for cron in CRONS.values():
        if row.task == TASK and (args, kwargs) in (([cron.name], {}), ([], {"name": cron.name})):
            return cron
    return next((each for each in PLAIN_TASKS.values() if (each.task, [], {}) == (row.task, args, kwargs)), None)


def _shortest(schedule: schedules.BaseSchedule) -> timedelta | None:
    """The shortest time between two moments of the schedule; None for sunrise and for one fixed time."""
    if isinstance(schedule, schedules.crontab):
        times: Any = schedule  # the stubs lack the sets of hours and minutes
        minutes = sorted(60 * hour + minute for hour in times.hour for minute in times.minute)
        nexts = [*minutes[1:], minutes[0] + DAY]
        return timedelta(minutes=min(after - before for before, after in zip(minutes, nexts, strict=True)))
    if isinstance(schedule, schedules.schedule):
        return schedule.run_every  # type: ignore[attr-defined, no-any-return]  # the stubs lack it
    return None
