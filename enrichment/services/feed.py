"""Keeps the record of how long ISBNdb's feed of updates has been followed without a gap.

Freshness builds on the record (selectors/books.py). Its times are the database's, as those of editions are.
"""

import structlog
from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce, Now

from enrichment.models import FeedFollowing
from enrichment.models.feed import FEED_HISTORY

log = structlog.get_logger(__name__)

TOO_LONG = f"The feed was not read to its end for more than {FEED_HISTORY.days} days, which is all that it keeps."


def start_run(*, from_the_beginning: bool, run: str) -> None:
    """Records that a run begins to read: a new reading, or the rest of one that an earlier run began.

    Ends the following when the feed no longer has everything since the latest reading that came to its end.
    """
    goes_on = FeedFollowing.objects.filter(ended_at=None)
    with transaction.atomic(durable=True):
        too_old = goes_on.alias(up_to=Coalesce("read_up_to", "began_at")).filter(up_to__lte=Now() - FEED_HISTORY)
        _end(too_old, why=TOO_LONG, run=run)
        if from_the_beginning and goes_on.update(reading_since=Now()) == 0:
            FeedFollowing.objects.create(began_at=Now(), reading_since=Now())


def finish_reading() -> None:
    """Records that the reading came to the end of the feed."""
    FeedFollowing.objects.filter(ended_at=None).update(read_up_to=F("reading_since"))


def record_gap(why: str, *, run: str) -> None:
    """Ends the following: something that the feed named was not read. The next reading begins another one."""
    _end(FeedFollowing.objects.filter(ended_at=None), why=why, run=run)


def _end(following: QuerySet[FeedFollowing], *, why: str, run: str) -> None:
    if following.update(ended_at=Now(), why_ended=why, ended_by=run):
        log.warning("feed.gap", why=why)
