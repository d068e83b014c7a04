"""What is left of ISBNdb's plan today, as far as we know. The quota's own limits are in `allowances`."""

from dataclasses import dataclass
from datetime import date, timedelta

from quota.database import ask

# What is left is the least of two figures. ISBNdb's last answer, minus what we have dispatched since, does not know the
# calls that others make. What ISBNdb sells, minus our own count, does not depend on a counter that may lag.
_PLAN = """
    SELECT ledger.closed_at IS NOT NULL, coalesce((SELECT max(id) FROM quota_call), 0), answer.total,
        least(
            answer."left" - (
                SELECT coalesce(sum(calls), 0) FROM quota_call
                WHERE day = ledger.day AND id > answer.call_id AND reservation_id IS NOT NULL
            ),
            answer.total - ledger.used
        ),
        coalesce(answer.call_id, 0), quota_now() - answer.answered_at
    FROM quota_dailyledger AS ledger
    LEFT JOIN LATERAL (
        SELECT * FROM quota_reconciliation WHERE day = ledger.day AND ignored = '' ORDER BY id DESC LIMIT 1
    ) AS answer ON true
    WHERE ledger.day = %(day)s"""


@dataclass(frozen=True)
class PlanToday:
    """ISBNdb's plan on one day, in calls."""

    is_closed: bool
    newest_call: int
    """The id of the newest journal row."""
    total: int | None
    """What ISBNdb sells a day; None when its counter was not asked on that day."""
    left: int | None
    """What is left of it now, at most; None as for `total`."""
    asked_by: int
    """The id of the journal row of the last question; 0 when there was none."""
    age: timedelta | None
    """How long ago ISBNdb has answered it."""


def get_plan(day: date) -> PlanToday:
    """ISBNdb's plan on a day that has a ledger. Raises QuotaUnavailable."""
    is_closed, newest_call, total, left, asked_by, age = ask(_PLAN, {"day": day})
    return PlanToday(is_closed, newest_call, total, left, asked_by, age)
