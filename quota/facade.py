"""The four basic operations of a quota manager."""

from quota.selectors.status import QuotaStatus, get_status
from quota.services import reservations

__all__ = ["check_quota", "get_status", "increment_usage", "reset_if_needed"]


def check_quota(calls: int) -> bool:
    """Whether a consumer with no floor and no budget could reserve `calls` calls now. Reserves nothing."""
    status: QuotaStatus = get_status()
    return status.enforcement == "observe" or (status.can_make_calls and calls <= status.remaining)


def increment_usage(calls: int) -> None:
    """Records `calls` calls that were made outside Alexandria. No limit refuses them."""
    reservations.increment(calls)


def reset_if_needed() -> bool:
    """Opens today's ledger. True when it was not open yet. Yesterday's ledger stays as it is: nothing is reset."""
    return reservations.open_ledger()
