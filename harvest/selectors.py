"""Everything that only reads the state of crons."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django_celery_beat.models import PeriodicTask

from harvest.models import CronState
from harvest.schedules import next_tick, schedules_by_cron
from quota.selectors.status import get_status


@dataclass(frozen=True)
class CronStanding:
    """How a cron is scheduled. `due_at`: its next tick; None without an enabled schedule or a known next tick."""

    tasks: list[PeriodicTask]
    due_at: datetime | None

    @property
    def is_paused(self) -> bool:
        """Whether it has schedules and all of them are off."""
        return bool(self.tasks) and not any(task.enabled for task in self.tasks)


def cron_standings(states: Iterable[CronState]) -> dict[str, CronStanding]:
    """How each cron is scheduled, by name, in one query for all of them. Raises QuotaUnavailable."""
    tasks, now = schedules_by_cron(), get_status().now
    standings = {}
    for state in states:
        own = tasks.get(state.name, [])
        due = [next_tick(task.schedule, last=state.last_tick_at, now=now) for task in own if task.enabled]
        standings[state.name] = CronStanding(own, min(filter(None, due), default=None))
    return standings


def crons_under_way() -> list[CronState]:
    """The crons that are running now, each with its `run`."""
    return list(CronState.objects.filter(run__isnull=False).select_related("run"))
