"""Everything that only reads the state of crons and bulk harvests."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Sum
from django_celery_beat.models import PeriodicTask

from harvest.models import BulkAuthor, BulkHarvest, CronState
from harvest.schedules import next_tick, schedules_by_cron
from quota.models import Reservation
from quota.selectors.status import get_status


@dataclass
class BulkFigures:
    """The results of a bulk harvest so far, and the calls that it has spent."""

    authors: int = 0
    pending: int = 0
    failed: int = 0
    books: int = 0
    calls: int = 0

    @property
    def done(self) -> int:
        """Authors with a result, good or bad."""
        return self.authors - self.pending


def bulk_figures(harvests: Iterable[BulkHarvest]) -> dict[int, BulkFigures]:
    """The figures of each harvest, by its id, in two queries for all of them."""
    ids = {harvest.source: harvest.pk for harvest in harvests}
    figures: dict[int, BulkFigures] = defaultdict(BulkFigures)
    authors = BulkAuthor.objects.filter(harvest__in=ids.values()).order_by().values_list("harvest", "state")
    for harvest, state, count, books in authors.annotate(Count("pk"), Sum("books")):
        figure = figures[harvest]
        figure.authors += count
        figure.books += books
        if state == BulkAuthor.State.PENDING:
            figure.pending = count
        elif state == BulkAuthor.State.FAILED:
            figure.failed = count
    spent = Reservation.objects.exclude(source="").filter(source__in=ids).order_by().values_list("source")
    for source, calls in spent.annotate(Sum("dispatched")):
        figures[ids[source]].calls = calls
    return figures


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


def harvests_under_way() -> list[BulkHarvest]:
    """The bulk harvests that are running now, newest first."""
    return list(BulkHarvest.objects.filter(state=BulkHarvest.State.RUNNING))
