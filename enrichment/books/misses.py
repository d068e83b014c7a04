"""When ISBNdb is asked again for what it did not know: after a day, then after a week, then after MISS_REMEMBER_DAYS.

ISBNdb looks for a book that it was asked for, and often knows it within a day. A shorter MISS_REMEMBER_DAYS shortens
every step.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now

from enrichment.models.books import UnknownToIsbndb


def pauses() -> list[timedelta]:
    """How long ISBNdb is not asked again, for each step."""
    last = timedelta(days=settings.MISS_REMEMBER_DAYS)
    return [min(timedelta(days=1), last), min(timedelta(days=7), last), last]


def still_remembered() -> Q:
    """A filter for the rows that ISBNdb is not asked for again yet."""
    remembered = Q()
    for step, pause in zip(UnknownToIsbndb.Step, pauses(), strict=True):
        remembered |= Q(step=step, asked_at__gt=Now() - pause)
    return remembered


def ask_again_at(miss: UnknownToIsbndb) -> datetime:
    """The time from which a request for it asks ISBNdb again."""
    return miss.asked_at + pauses()[miss.step - 1]
