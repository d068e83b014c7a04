"""Why an operation stopped early, as a word for programs and a sentence for people; and how long to pause after it."""

from datetime import timedelta

from django.db import DatabaseError, InterfaceError

from alexandria.common.database import OUT_OF_REACH, can_pass
from enrichment.exceptions import IsbndbError, IsbndbTimeout
from quota.exceptions import (
    ConsumerInactive,
    DayOver,
    PaceTimeout,
    QuotaError,
    QuotaRefused,
    ReservationClosed,
    ServiceStops,
)

STOPS = (QuotaRefused, ReservationClosed, ConsumerInactive)
"""The quota stopped the operation. What was done until then is a result, not a failure."""

_STOP_REASONS: dict[type[Exception], str] = {
    DayOver: "midnight",
    ReservationClosed: "released",  # by staff, or because the lease expired
    ConsumerInactive: "switched_off",
    ServiceStops: "service_stops",
    PaceTimeout: "fleet_busy",
    QuotaError: "quota_unavailable",
    IsbndbTimeout: "isbndb_timeout",
    IsbndbError: "isbndb_failed",
    **dict.fromkeys((DatabaseError, *OUT_OF_REACH), "database_unavailable"),
}
"""The `stopped_reason` of each exception except QuotaRefused. A subclass comes before its parent: the first match
counts."""

FIRST_PAUSE = timedelta(seconds=30)
OUTAGE_PAUSE = timedelta(seconds=5)
MAX_PAUSE = timedelta(minutes=15)


def stop_reason(error: Exception) -> str:
    """The `stopped_reason` of one of ENDINGS or of a database error. For a refusal, it is the name of the limit."""
    if isinstance(error, QuotaRefused):
        return error.limit
    return next(reason for kind, reason in _STOP_REASONS.items() if isinstance(error, kind))


def public_message(error: Exception) -> str:
    """A sentence that consumers can read. PostgreSQL's own messages contain names of its host and users."""
    return "The database is out of reach." if isinstance(error, DatabaseError | InterfaceError) else str(error)


def first_pause(error: Exception) -> timedelta:
    """The pause after the first failure. A database that answers again is likely to go on answering."""
    return OUTAGE_PAUSE if can_pass(error) else FIRST_PAUSE


def pause_after(failures: int, error: Exception) -> timedelta:
    """The pause after so many failures in a row, of which this is the last: doubled with each one, up to MAX_PAUSE."""
    doublings = min(max(failures - 1, 0), 10)
    return min(MAX_PAUSE, first_pause(error) * (1 << doublings))
