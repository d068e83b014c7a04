"""All periodic work: what runs, when, and which consumer pays for it. One entry is all that a new cron needs.

`harvest.defaults` makes the consumer, the schedule and the state of each entry. From then on the schedule is a row of
django_celery_beat, which people edit in the admin.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from enrichment.services.queue_batches import look
from enrichment.services.refresh_plans import RefreshPlan
from harvest.crons import books, feed, housekeeping
from harvest.crons.run_context import RunContext
from harvest.exceptions import CronUnknown

FLOOR = 1000
"""Number of calls that a cron leaves free for other consumers, unless its entry says otherwise."""


@dataclass(frozen=True)
class Every:
    """An interval."""

    seconds: int

    def __str__(self) -> str:
        minutes, rest = divmod(self.seconds, 60)
        if rest:
            return f"every {self.seconds} s"
        return "every minute" if minutes == 1 else f"every {minutes} min"


@dataclass(frozen=True)
class At:
    """A time of the day (UTC) or, without an hour, minutes of every hour, as in a crontab."""

    minute: str
    hour: str = "*"

    def __str__(self) -> str:
        if self.hour == "*":
            return "every hour at " + ", ".join(f":{minute:0>2}" for minute in self.minute.split(","))
        return f"{self.hour:0>2}:{self.minute:0>2}"


@dataclass(frozen=True, kw_only=True)
class Periodic:
    """`description`: what it does, for the admin and docs/harvesting.md. `schedule`: the first one.

    `min_seconds`: no schedule makes it run more often than this.
    """

    name: str
    description: str
    schedule: Every | At
    min_seconds: int = 300


@dataclass(frozen=True, kw_only=True)
class Cron(Periodic):
    """Periodic work whose runs are recorded (HarvestRun) and never overlap.

    `run` does the work of one run. `consumer` is the slug of the consumer that pays, "" for a cron that spends no
    calls; `floor` is the floor that this consumer starts with. `begins_free`: it begins with requests that cost no
    call, so it starts when none is free. `on_closed_days`: its requests go out on a closed day too. `is_due` says
    whether there can be anything to do, and is called before the quota is read. `plan` says what a run would cost with
    a cursor, for `run_cron --dry-run`.
    """

    run: Callable[[RunContext], None]
    consumer: str = ""
    floor: int = FLOOR
    begins_free: bool = False
    on_closed_days: bool = False
    is_due: Callable[[], bool] = lambda: True
    plan: Callable[[dict[str, Any]], RefreshPlan] | None = None


@dataclass(frozen=True, kw_only=True)
class PlainTask(Periodic):
    """Periodic work that spends no calls and records no runs: a Celery task without arguments, by its name."""

    task: str


CRONS: dict[str, Cron] = {}
PLAIN_TASKS: dict[str, PlainTask] = {}


def register(entry: Cron | PlainTask) -> None:
    """Adds an entry; an app that harvest must not import calls it in its `ready()`."""
    if entry.name in CRONS or entry.name in PLAIN_TASKS:
        raise ValueError(f"There are two crons {entry.name!r}.")
    if isinstance(entry, Cron):
        CRONS[entry.name] = entry
    else:
        PLAIN_TASKS[entry.name] = entry


def get_cron(name: str) -> Cron:
    """Raises CronUnknown."""
    try:
        return CRONS[name]
    except KeyError:
        raise CronUnknown(f"There is no cron {name!r}. There are: {', '.join(CRONS)}.") from None


for _entry in (
    Cron(
        name="update-feed",
        description="Refreshes the known ISBNs that ISBNdb's feed of updates lists.",
        schedule=At(hour="2", minute="10"),
        run=feed.update_feed,
        consumer="cron-update-feed",
        begins_free=True,
    ),
    Cron(
        name="new-releases",
        description="Stores the books of this month and last month.",
        schedule=At(hour="3", minute="10"),
        run=books.new_releases,
        consumer="cron-new-releases",
    ),
    Cron(
        name="stale-refresh",
        description="Refreshes stale books by the cheapest plan: authors by listing, the rest in batches.",
        schedule=At(hour="4", minute="10"),
        run=books.stale_refresh,
        plan=books.plan_stale_refresh,
        consumer="cron-stale-refresh",
    ),
    Cron(
        name="queue-flush",
        description="Sends the batches of the queue that are full or due.",
        schedule=Every(seconds=2),
        min_seconds=1,
        run=books.queue_flush,
        is_due=look,
    ),
    Cron(
        name="reconciliation",
        description="Compares ISBNdb's counter with the ledger.",
        schedule=At(minute="5,15,25,35,45,55"),
        run=housekeeping.reconcile,
        consumer="cron-reconciliation",
        on_closed_days=True,
    ),
    Cron(
        name="expire-leases",
        description="Releases the calls that dead operations still reserve.",
        schedule=Every(seconds=60),
        min_seconds=10,
        run=housekeeping.expire_leases,
    ),
    Cron(
        name="open-ledger",
        description="Opens the ledger of the day.",
        # Again a minute after midnight, in case beat's clock is ahead of the database's.
        schedule=At(minute="0,1,10,20,30,40,50"),
        min_seconds=30,
        run=housekeeping.open_ledger,
    ),
    Cron(
        name="ledger-check",
        description="Recomputes the ledgers of past days and fails when a figure is wrong.",
        schedule=At(hour="0", minute="20"),
        run=housekeeping.ledger_check,
    ),
    Cron(
        name="prune-journal",
        description="Deletes calls, reservations, refusals, runs and jobs older than JOURNAL_KEEP_DAYS.",
        schedule=At(hour="0", minute="40"),
        run=housekeeping.prune_journal,
    ),
    PlainTask(
        name="resume-jobs",
        description="Queues jobs whose wait is over or whose worker died, and sends lost messages again.",
        schedule=Every(seconds=5),
        min_seconds=2,
        task="enrichment.tasks.resume_jobs",
    ),
):
    register(_entry)
