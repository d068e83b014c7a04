"""The crons by name: what runs, and who pays.

Schedules are rows of django_celery_beat, which the admin edits; migration 0002 makes those that there are at first.
"""

from collections.abc import Callable
from dataclasses import dataclass

from harvest.crons import books, housekeeping
from harvest.crons.work import Work
from harvest.exceptions import CronUnknown


@dataclass(frozen=True)
class Cron:
    """`carry_out` does the work of one run; `consumer` is the slug of who pays, "" where no call is spent."""

    name: str
    carry_out: Callable[[Work], None]
    consumer: str = ""


CRONS = {
    cron.name: cron
    for cron in (
        Cron("new-releases", books.new_releases, consumer="cron-new-releases"),
        Cron("stale-refresh", books.stale_refresh, consumer="cron-stale-refresh"),
        Cron("update-feed", books.update_feed, consumer="cron-update-feed"),
        # queue-flush, paid by cron-queue-flush, stands here once enrichment.services.queue is there.
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
