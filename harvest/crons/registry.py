"""The crons by name: what runs, and who pays.

Schedules are rows of django_celery_beat, which the admin edits; migration 0002 makes those that there are at first.
"""

from collections.abc import Callable
from dataclasses import dataclass

from enrichment.models.queue import FLUSHER
from enrichment.services import queue
from harvest.crons import books, housekeeping
from harvest.crons.run_context import Work
from harvest.exceptions import CronUnknown


@dataclass(frozen=True)
class Cron:
    """`carry_out` does the work of one run; `consumer` is the slug of who pays, "" where no call is spent.

    `is_due`: whether there may be anything to do, asked before the quota is looked at.
    """

    name: str
    carry_out: Callable[[Work], None]
    consumer: str = ""
    is_due: Callable[[], bool] = lambda: True


CRONS = {
    cron.name: cron
    for cron in (
        Cron("new-releases", books.new_releases, consumer="cron-new-releases"),
        Cron("stale-refresh", books.stale_refresh, consumer="cron-stale-refresh"),
        Cron("update-feed", books.update_feed, consumer="cron-update-feed"),
        Cron("queue-flush", books.queue_flush, consumer=FLUSHER, is_due=queue.look),
        Cron("reconciliation", housekeeping.reconcile, consumer="cron-reconciliation"),
        Cron("expire-leases", housekeeping.expire_leases),
        Cron("open-ledger", housekeeping.open_ledger),
        Cron("ledger-check", housekeeping.ledger_check),
        Cron("prune-journal", housekeeping.prune_journal),
    )
}


def get_cron(name: str) -> Cron:
    """Raises CronUnknown."""
    try:
        return CRONS[name]
    except KeyError:
        raise CronUnknown(f"There is no cron {name!r}. There are: {', '.join(CRONS)}.") from None
