"""Why an operation ended before its end."""

from enrichment.exceptions import IsbndbError, IsbndbTimeout
from quota.database import OUT_OF_REACH
from quota.exceptions import ConsumerInactive, PaceTimeout, QuotaError, QuotaRefused, ReservationClosed

STOPS = (QuotaRefused, ReservationClosed, ConsumerInactive)
"""The quota's own reasons: what came until then is a result, not a failure."""

_WORDS: dict[type[Exception], str] = {
    ReservationClosed: "midnight",  # or a lease that ran out; either way no call can come from it
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
    return "The database is out of reach." if isinstance(error, OUT_OF_REACH) else str(error)
