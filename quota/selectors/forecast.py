"""When a number of calls can be spent: the quota counts calls, the pace counts requests."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from quota.selectors.allowances import allowance_of
from quota.selectors.status import get_status


@dataclass(frozen=True)
class Forecast:
    """When one consumer could spend a number of calls, if no other consumer spent any."""

    calls: int
    today: int
    """How many of them today."""
    days: int
    """The UTC days until then, today included: 1 when it finishes today, 2 tomorrow. 0 when it never does."""
    finish_at: datetime | None
    """When the last request would be sent. None when that never happens, or cannot be known because the consumer or
    harvesting is switched off."""
    reset_at: datetime
    """The next midnight UTC."""

    @property
    def finishes_today(self) -> bool:
        """Whether the last request would be sent before the next midnight UTC, also by the pace."""
        return self.today == self.calls and self.finish_at is not None and self.finish_at < self.reset_at


def forecast(calls: int, *, consumer: str, requests: int | None = None) -> Forecast:
    """When the consumer (a slug) could spend `calls` calls, by the quota that is left and by the pace.

    `requests`: in how many requests; one for each call unless given. Raises ConsumerUnknown and QuotaUnavailable.
    """

    def time_for(part: int) -> timedelta:
        """How long the pace takes for the requests of that part of the calls."""
        sent = part if requests is None else ceil(requests * part / calls) if calls else requests
        return sent * status.pace

    def finishing(finish_at: datetime) -> Forecast:
        return Forecast(calls, today, (finish_at.date() - status.day).days + 1, finish_at, status.reset_at)

    status = get_status()
    allowance = allowance_of(consumer, status)
    if allowance.switched_off:
        return Forecast(calls, 0, 0, None, status.reset_at)
    if status.enforcement == "observe":
        today, a_day = calls, calls
    else:
        today, a_day = min(calls, allowance.free_today), allowance.free_a_day
    rest = calls - today
    if not rest:
        return finishing(status.now + time_for(today))
    if not a_day:
        return Forecast(calls, today, 0, None, status.reset_at)
    full_days, last = divmod(rest - 1, a_day)
    return finishing(status.reset_at + timedelta(days=full_days) + status.midnight_guard + time_for(last + 1))
