"""The four operations that one expects of a quota manager."""

from quota.selectors.status import QuotaStatus, get_status
from quota.services import reservations

__all__ = ["check_quota", "get_status", "increment_usage", "reset_if_needed"]


def check_quota(calls: int) -> bool:
    """Whether `calls` calls could be set aside now by a consumer with neither floor nor budget. Sets nothing aside."""
    status: QuotaStatus = get_status()
    return status.enforcement == "observe" or (status.can_make_calls and calls <= status.remaining)


def increment_usage(calls: int) -> None:
    """Records `calls` calls that were made outside Alexandria, even past the limit."""
    reservations.increment(calls)


def reset_if_needed() -> bool:
    """Opens today's ledger; True when it was not open yet. Yesterday's stays as it is: nothing is ever zeroed."""
    return reservations.open_ledger()
