"""Why an operation ended before its end, and how long to leave it alone then."""

from datetime import timedelta

from django.db import DatabaseError, InterfaceError

from enrichment.exceptions import IsbndbError, IsbndbTimeout
from quota.exceptions import ConsumerInactive, DayOver, PaceTimeout, QuotaError, QuotaRefused, ReservationClosed

STOPS = (QuotaRefused, ReservationClosed, ConsumerInactive)
"""The quota's own reasons: what came until then is a result, not a failure."""

FIRST_PAUSE = timedelta(seconds=30)
MAX_PAUSE = timedelta(minutes=15)

_WORDS: dict[type[Exception], str] = {
    DayOver: "midnight",
    ReservationClosed: "released",  # by staff, or because its lease ran out
    ConsumerInactive: "switched_off",
    PaceTimeout: "fleet_busy",
    QuotaError: "quota_unavailable",
    IsbndbTimeout: "isbndb_timeout",
    IsbndbError: "isbndb_failed",
}


def stop_reason(error: Exception) -> str:
    """A word for programs: the limit that refused, or what failed."""
    if isinstance(error, QuotaRefused):
        return error.limit
    return next((word for kind, word in _WORDS.items() if isinstance(error, kind)), "database_unavailable")


def in_our_words(error: Exception) -> str:
    """What consumers may read: PostgreSQL's own words name its host and its users."""
    return "The database is out of reach." if isinstance(error, DatabaseError | InterfaceError) else str(error)


def pause_after(failures: int) -> timedelta:
    """How long to leave alone what failed so many times in a row: FIRST_PAUSE, doubled each time, to MAX_PAUSE."""
    doublings = min(failures - 1, 10)
    return min(MAX_PAUSE, FIRST_PAUSE * (1 << doublings))
