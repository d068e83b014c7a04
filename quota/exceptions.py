"""What can go wrong in the quota, one class for each failure. `alexandria/api/problems.py` maps them to HTTP."""

from datetime import datetime
from uuid import UUID

from alexandria.common.text import counted
from quota.limits import LIMITS


class QuotaError(Exception):
    """The common parent."""


class QuotaUnavailable(QuotaError):
    """PostgreSQL did not answer in time. As far as we know nothing was granted, and nothing was sent."""


class PaceTimeout(QuotaUnavailable):
    """The fleet is busy or pauses: there was no send time within the time that the caller waits.

    `retry_after`: the seconds after which the pause is over; None when there is none.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class ServiceStops(PaceTimeout):
    """This process is told to end. Nothing more is sent; another process can go on at once."""


class QuotaRefused(QuotaError):
    """A limit refused the calls that were requested.

    `limit`: a name from `quota.limits.LIMITS`. `asked`: calls requested. `free`: calls that could have been granted.
    `retry_at`: when a retry can succeed; None: never. `refusal_id`: the Refusal on record; None when it could not be
    written.
    """

    def __init__(
        self, *, limit: str, asked: int, free: int, retry_at: datetime | None, refusal_id: UUID | None = None
    ) -> None:
        self.limit = limit
        self.asked = asked
        self.free = free
        self.retry_at = retry_at
        self.refusal_id = refusal_id
        super().__init__(f"{counted(asked, 'call')} requested, {free:,} free. {self.explanation}")

    @property
    def explanation(self) -> str:
        """Why, in one sentence without figures."""
        return LIMITS[self.limit].explanation


class ReservationClosed(QuotaError):
    """The reservation is settled, or its lease has run out. No call can come from it."""


class DayOver(ReservationClosed):
    """The day of the reservation is over, or ends within seconds."""


class ReservationSpent(QuotaError):
    """The reservation holds fewer calls than the request costs. `extend` adds the `missing` calls."""

    def __init__(self, message: str, *, missing: int) -> None:
        super().__init__(message)
        self.missing = missing


class ShareNotPaid(QuotaError):
    """One of several payers of a batch (`payer`: its number, from 0) could not pay its share. `why`: its own error."""

    def __init__(self, payer: int, why: ReservationClosed | ReservationSpent) -> None:
        super().__init__(str(why))
        self.payer = payer
        self.why = why


class ConsumerUnknown(QuotaError):
    """No consumer has that slug."""


class ConsumerInactive(QuotaError):
    """The consumer is switched off."""


class HarvestSwitchedOff(ConsumerInactive):
    """The consumer is a cron or bulk work, and harvesting is switched off."""


class LedgerNotOpen(QuotaError):
    """That day has no ledger, so there is nothing to correct."""


class CorrectionRefused(QuotaError):
    """The correction makes no sense, and nothing was changed. The message says what would be right."""


class KeyNotUsable(QuotaError):
    """The API key was revoked or has expired before, so it cannot be replaced or revoked."""


class SendWindowMissed(QuotaError):
    """The request was dispatched and cannot be sent before the guard of midnight. It stays paid and is not sent."""
