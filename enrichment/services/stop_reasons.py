"""Why an operation stopped early, as a word for programs and a sentence for people; and how long to pause after it."""

from datetime import timedelta

from django.db import DatabaseError, InterfaceError

from alexandria.common.database import OUT_OF_REACH
from enrichment.exceptions import IsbndbError, IsbndbTimeout
from quota.exceptions import ConsumerInactive, DayOver, PaceTimeout, QuotaError, QuotaRefused, ReservationClosed

STOPS = (QuotaRefused, ReservationClosed, ConsumerInactive)
"""The quota stopped the operation. What was done until then is a result, not a failure."""

_STOP_REASONS: dict[type[Exception], str] = {
    DayOver: "midnight",
    ReservationClosed: "released",  # by staff, or because the lease expired
    ConsumerInactive: "switched_off",
    PaceTimeout: "fleet_busy",
    QuotaError: "quota_unavailable",
    IsbndbTimeout: "isbndb_timeout",
    IsbndbError: "isbndb_failed",
    **dict.fromkeys((DatabaseError, *OUT_OF_REACH), "database_unavailable"),
}
"""The `stopped_reason` of each exception except QuotaRefused. A subclass comes before its parent: the first match
counts."""

FIRST_PAUSE = timedelta(seconds=30)
MAX_PAUSE = timedelta(minutes=15)


def stop_reason(error: Exception) -> str:
    """The `stopped_reason` of one of ENDINGS or of a database error. For a refusal, it is the name of the limit."""
    if isinstance(error, QuotaRefused):
        return error.limit
    return next(reason for kind, reason in _STOP_REASONS.items() if isinstance(error, kind))


def public_message(error: Exception) -> str:
    """A sentence that consumers can read. PostgreSQL's own messages contain names of its host and users."""
    return "The database is out of reach." if isinstance(error, DatabaseError | InterfaceError) else str(error)


def pause_after(failures: int) -> timedelta:
    """The pause after so many failures in a row: FIRST_PAUSE, doubled with each failure, up to MAX_PAUSE."""
    doublings = min(failures - 1, 10)
    return min(MAX_PAUSE, FIRST_PAUSE * (1 << doublings))
