"""Everything that only reads runs and harvests."""

from dataclasses import dataclass

from django.db.models import Count, Q

from harvest.models import BulkHarvest, CronState


@dataclass(frozen=True)
class HarvestProgress:
    """A bulk harvest that runs, how many authors it has, and how many of them were dealt with."""

    harvest: BulkHarvest
    authors: int
    dealt_with: int


def crons_under_way() -> list[CronState]:
    """The crons that run now, each with its `run`."""
    return list(CronState.objects.filter(run__isnull=False).select_related("run"))


def harvests_under_way() -> list[HarvestProgress]:
    """The bulk harvests that run now, the latest first."""
    running = BulkHarvest.objects.filter(state=BulkHarvest.State.RUNNING).annotate(
        listed=Count("authors"), dealt_with=Count("authors", filter=~Q(authors__state="pending"))
    )
    return [HarvestProgress(harvest, harvest.listed, harvest.dealt_with) for harvest in running]
