"""Which moment of a schedule a message of beat stands for, so that no two beats or workers run the same one twice.

Beat's messages do not say when they were due. Several beats send one each, and a busy worker takes it up late.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from celery import schedules
from django_celery_beat.models import PeriodicTask

from harvest.models import CronState

TASK = "harvest.tasks.run_cron"
"""The task that PeriodicTask rows name; its argument is the cron's name."""

EARLY = timedelta(seconds=30)
"""So far may beat's clock be ahead of the database's, or a tick at a minute of the day would be lost."""

TOLERANCE = 10
"""A message of an interval may come the 10th part of it early: neither beat nor the workers keep time exactly."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def claim_tick(name: str, *, now: datetime) -> bool:
    """Takes the tick of the cron that `now` belongs to, by row count; False when it was taken before.

    `now`: the database's clock. The cron must have its CronState. A cron that no enabled PeriodicTask names has no
    ticks: whoever asks for it runs it.
    """
    last = CronState.objects.values_list("last_tick_at", flat=True).get(pk=name)
    found = list(_schedules(name))
    if not found:
        return True
    ticks = [tick for schedule in found if (tick := tick_at(schedule, last=last, now=now))]
    return bool(ticks) and CronState.objects.filter(pk=name, last_tick_at=last).update(last_tick_at=max(ticks)) == 1


def tick_at(schedule: schedules.BaseSchedule, *, last: datetime | None, now: datetime) -> datetime | None:
    """What `last_tick_at` becomes when `now` stands for a tick after `last`; None when it does not.

    Of an interval, any moment once it has gone by since `last`. Of a crontab, any moment from one minute that fits it
    to the next.
    """
    if isinstance(schedule, schedules.crontab):
        before, delta, _ = schedule.remaining_delta(last or _EPOCH)
        due: datetime = before + delta
        return max(due, now) if due <= now + EARLY else None
    if isinstance(schedule, schedules.schedule):
        every: timedelta = schedule.run_every  # type: ignore[attr-defined]  # the stubs lack it
        return now if last is None or now - last >= every - every / TOLERANCE else None
    return now  # at sunrise, or once: nothing tells two such ticks apart


def next_tick(schedule: schedules.BaseSchedule, *, last: datetime | None, now: datetime) -> datetime | None:
    """When the schedule's tick after `last` is due; `now` when it should have been. None where that cannot be told."""
    if isinstance(schedule, schedules.crontab):
        before, delta, _ = schedule.remaining_delta(last or now)
        due: datetime = before + delta
        return max(now, due)
    if isinstance(schedule, schedules.schedule):
        every: timedelta = schedule.run_every  # type: ignore[attr-defined]  # likewise
        return now if last is None else max(now, last + every)
    return None


def schedules_by_cron() -> dict[str, list[PeriodicTask]]:
    """The rows that name a cron, on or off, by its name."""
    rows: dict[str, list[PeriodicTask]] = defaultdict(list)
    for row in PeriodicTask.objects.filter(task=TASK).select_related("interval", "crontab", "solar", "clocked"):
        if name := _named(row):
            rows[name].append(row)
    return rows


def overdue(*, now: datetime, grace: timedelta) -> dict[str, datetime]:
    """The crons that should have begun more than `grace` ago and did not, by name, and when they were due."""
    last_ticks = dict(CronState.objects.values_list("name", "last_tick_at"))
    found: dict[str, datetime] = {}
    for row in PeriodicTask.objects.filter(task=TASK, enabled=True).select_related("interval", "crontab"):
        name, schedule = _named(row), row.schedule
        last = last_ticks.get(name) if name else None
        # Beat has not run it since it was made or switched on: what was due before that does not count.
        since = max(filter(None, [last, row.date_changed])) if row.last_run_at is None else last or row.date_changed
        if isinstance(schedule, schedules.crontab):
            before, delta, _ = schedule.remaining_delta(since)
            due: datetime = before + delta
        elif isinstance(schedule, schedules.schedule):
            due = since + schedule.run_every  # type: ignore[attr-defined]  # the stubs lack it
        else:
            continue
        if name and due + grace < now:
            found[name] = min(due, found.get(name, due))
    return found


def _schedules(name: str) -> Iterator[schedules.BaseSchedule]:
    for row in PeriodicTask.objects.filter(task=TASK, enabled=True).select_related("interval", "crontab"):
        if _named(row) == name:
            yield row.schedule


def _named(row: PeriodicTask) -> str | None:
    """The cron that the row's arguments name; None when they cannot be read, as beat sends no message then."""
    try:
        args, kwargs = json.loads(row.args or "[]"), json.loads(row.kwargs or "{}")
        return str(args[0] if args else kwargs["name"])
    except (ValueError, LookupError, TypeError):
        return None
