"""Which moment of a schedule a message from beat stands for, so that beats and workers never run one moment twice.

A message does not say when it was due. Every beat sends one, and a busy worker takes it late. So each moment of a
schedule is a tick, and the first worker that writes it to `last_tick_at` of the cron runs it.
"""

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from celery import schedules
from django.db.models import Q
from django_celery_beat.models import PeriodicTask

from harvest.models import CronState
from quota.database import QuotaNow

TASK = "harvest.tasks.run_cron"
"""The task in the PeriodicTask rows of crons; its argument is the name of the cron."""

EARLY = timedelta(seconds=30)
"""How early the message of a crontab can come: beat's clock may be ahead of the database's, and no tick may be lost."""

TOLERANCE = 10
"""The message of an interval can come a 10th of the interval early: neither beat nor the workers keep exact time."""

BY_HAND = timedelta(minutes=1)
"""How far two runs by hand of one cron are apart at least."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Due(NamedTuple):
    """When a schedule is due, and how early its message can come.

    `is_moment`: it is a moment of the calendar, as in a crontab, and not a time since the last tick.
    """

    at: datetime
    early: timedelta
    is_moment: bool


def due_after(schedule: schedules.BaseSchedule, after: datetime) -> Due | None:
    """When the schedule is next due after `after`; None for sunrise and for one fixed time, which have no next tick."""
    if isinstance(schedule, schedules.crontab):
        before, delta, _ = schedule.remaining_delta(after)
        return Due(before + delta, EARLY, is_moment=True)
    if isinstance(schedule, schedules.schedule):
        every: timedelta = schedule.run_every  # type: ignore[attr-defined]  # the stubs lack it
        return Due(after + every, every / TOLERANCE, is_moment=False)
    return None


def claim_tick(name: str, *, now: datetime, at_least: timedelta) -> bool:
    """Takes the tick of the cron that `now` belongs to; False when another worker has taken it.

    Two ticks are `at_least` this far apart, whatever the schedules and the messages say. `now`: the database's clock.
    The CronState of the cron must exist. A cron without an enabled PeriodicTask has no ticks: it runs for a message.
    """
    last = CronState.objects.values_list("last_tick_at", flat=True).get(pk=name)
    if last and now - last < at_least - at_least / TOLERANCE:
        return False
    own = [task for task in schedules_by_cron().get(name, []) if task.enabled]
    ticks = [tick for task in own if (tick := tick_at(task.schedule, last=last, now=now))] if own else [now]
    return bool(ticks) and CronState.objects.filter(pk=name, last_tick_at=last).update(last_tick_at=max(ticks)) == 1


def claim_run_by_hand(name: str) -> bool:
    """Whether the cron may run because a person asks: once in BY_HAND, over all processes."""
    free = Q(by_hand_at=None) | Q(by_hand_at__lt=QuotaNow() - BY_HAND)
    return CronState.objects.filter(free, pk=name).update(by_hand_at=QuotaNow()) == 1


def tick_at(schedule: schedules.BaseSchedule, *, last: datetime | None, now: datetime) -> datetime | None:
    """The new `last_tick_at` when `now` stands for a tick after `last`; None when it does not.

    For an interval: any moment once the interval has passed since `last`. For a crontab: any moment from one matching
    minute to the next.
    """
    due = due_after(schedule, last or _EPOCH)
    if due is None:
        return now  # sunrise, or a fixed time: two such ticks cannot be distinguished
    if last is not None and last > now and not due.is_moment:
        return now  # the database's clock was set back; the interval would wait until it is where it was
    if now < due.at - due.early:
        return None
    return max(due.at, now) if due.is_moment else now


def next_tick(schedule: schedules.BaseSchedule, *, last: datetime | None, now: datetime) -> datetime | None:
    """When the tick after `last` is due; `now` when it is late. None when the schedule has no next tick."""
    due = due_after(schedule, last or now)
    if due is None:
        return None
    return max(now, due.at) if last or due.is_moment else now


def schedules_by_cron() -> dict[str, list[PeriodicTask]]:
    """The schedules of all crons, on or off, by the name of the cron."""
    rows: dict[str, list[PeriodicTask]] = defaultdict(list)
    for row in PeriodicTask.objects.filter(task=TASK).select_related("interval", "crontab", "solar", "clocked"):
        if name := _cron_of(row):
            rows[name].append(row)
    return rows


def overdue(*, now: datetime, grace: timedelta) -> dict[str, datetime]:
    """The crons that are more than `grace` late, by name, with the time at which they were due."""
    last_ticks = dict(CronState.objects.values_list("name", "last_tick_at"))
    found: dict[str, datetime] = {}
    for name, rows in schedules_by_cron().items():
        last = last_ticks.get(name)
        for row in rows:
            if not row.enabled:
                continue
            # Beat has not run a new or re-enabled row yet: what was due before that does not count.
            since = max(filter(None, [last, row.date_changed])) if row.last_run_at is None else last or row.date_changed
            due = due_after(row.schedule, since)
            if due and due.at + grace < now:
                found[name] = min(due.at, found.get(name, due.at))
    return found


def _cron_of(row: PeriodicTask) -> str | None:
    """The cron in the row's arguments; None when they are unreadable: beat then sends no message."""
    try:
        args, kwargs = json.loads(row.args or "[]"), json.loads(row.kwargs or "{}")
        return str(args[0] if args else kwargs["name"])
    except (ValueError, LookupError, TypeError):
        return None
