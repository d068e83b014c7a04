"""What can go wrong in the quota, one class a failure. `alexandria/api/problems.py` maps them to HTTP."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID


class QuotaError(Exception):
    """The common parent."""


class QuotaUnavailable(QuotaError):
    """PostgreSQL could not be asked in time. Nothing was granted, as far as we know, and nothing was sent."""


class PaceTimeout(QuotaUnavailable):
    """The fleet is so busy that no send time was to be had within the wait that the caller allows."""


class QuotaRefused(QuotaError):
    """A limit stands against the calls that were asked for.

    `limit`: one of safety_limit, floor, daily_budget, cap_per_operation, day_closed, midnight.
    `asked`, `free`: calls. `retry_at`: when to come back; None when coming back does not help. `refusal_id`: the
    Refusal on record; None when it could not be written.
    """

    EXPLANATIONS: ClassVar = {
        "safety_limit": "the calls of the day are used up or set aside",
        "floor": "this consumer must leave calls free for others",
        "daily_budget": "this consumer's daily budget is used up or set aside",
        "cap_per_operation": "one operation of this consumer may not take so many",
        "day_closed": "ISBNdb said that the quota of the day is gone",
        "midnight": "no call is made within 2 seconds of midnight UTC",
    }

    def __init__(
        self, *, limit: str, asked: int, free: int, retry_at: datetime | None, refusal_id: UUID | None = None
    ) -> None:
        self.limit = limit
        self.asked = asked
        self.free = free
        self.retry_at = retry_at
        self.refusal_id = refusal_id
        calls = "call" if asked == 1 else "calls"
        super().__init__(f"{asked} {calls} asked, {free} free: {self.EXPLANATIONS[limit]}.")


class ReservationClosed(QuotaError):
    """The reservation is settled, or its lease ran out: no call can come from it."""


class DayOver(ReservationClosed):
    """The reservation is of a day that is over, or will be within seconds."""


class ReservationSpent(QuotaError):
    """Every call of the reservation is dispatched; a further one takes `extend`."""


class ConsumerUnknown(QuotaError):
    """No consumer has that slug."""


class ConsumerInactive(QuotaError):
    """The consumer is switched off."""


class HarvestSwitchedOff(ConsumerInactive):
    """The consumer is a cron or bulk work, and harvesting is switched off."""


class LedgerNotOpen(QuotaError):
    """That day has no ledger, so there is nothing to put right."""


class CorrectionRefused(QuotaError):
    """The correction makes no sense: nothing was changed; the message says what would be right."""


class KeyNotUsable(QuotaError):
    """The API key was revoked or has expired before: there is nothing to replace or to revoke."""


class SendWindowMissed(QuotaError):
    """The call was dispatched, but could not be sent before midnight's guard. It stays spent and is not sent."""
