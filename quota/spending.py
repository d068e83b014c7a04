"""The only way in which other apps spend calls. However an operation ends, what it has reserved goes back."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from random import uniform

import structlog

from quota.exceptions import PaceTimeout, QuotaUnavailable, ReservationClosed
from quota.selectors.status import get_status
from quota.services import reservations
from quota.services.reservations import MAX_SLOT_DISTANCE, DispatchedCall

log = structlog.get_logger(__name__)

MAX_PACE_WAIT = timedelta(seconds=30)
"""How long a dispatch waits for a send time at most."""


@dataclass
class Spender:
    """The calls of one operation, made by `spending`. The first dispatch makes the reservation."""

    consumer: str
    operation: str
    calls: int
    source: str = ""
    reservation: uuid.UUID | None = None
    left: int = 0  # reserved and not dispatched
    dispatched: list[DispatchedCall] = field(default_factory=list)

    def need(self, calls: int) -> None:
        """Says how many calls the operation still needs, besides those dispatched.

        Reserved calls that are not needed go back at once. If more are needed than are reserved, the rest is reserved
        too, which raises what `reservations.extend` raises. Before the first dispatch this only changes how many calls
        that dispatch reserves.
        """
        if self.reservation is None:
            self.calls = calls
        elif calls > self.left:
            self._reserve_more(calls - self.left)
        elif calls < self.left:
            reservations.shrink(self.reservation, left=calls)
            self.left = calls

    def dispatch(self, method: str, path: str, *, isbns_asked: int | None = None) -> DispatchedCall:
        """Spends one call for the request that is described. Waits for the pace when it has to.

        Raises PaceTimeout after MAX_PACE_WAIT, and what `reserve` and `dispatch` of the reservations raise.
        """
        deadline = time.monotonic() + MAX_PACE_WAIT.total_seconds()
        while True:
            answer = self._ask(method, path, isbns_asked)
            if isinstance(answer, DispatchedCall):
                self.dispatched.append(answer)
                self.left -= 1
                return answer
            # A little jitter, so that not everything that waits asks at the same moment.
            pause = max(timedelta(), answer - MAX_SLOT_DISTANCE).total_seconds() + uniform(0.01, 0.1)  # noqa: S311
            if time.monotonic() + pause > deadline:
                raise PaceTimeout(
                    f"The fleet is busy: there was no send time within {MAX_PACE_WAIT.total_seconds():.0f} s."
                )
            reservations.sleep_until(time.monotonic() + pause)

    def extend(self) -> None:
        """Reserves one more call, for a retry. Raises what `reservations.extend` raises."""
        if not self.dispatched:
            raise RuntimeError("There is nothing to extend before the first dispatch.")
        self._reserve_more(1)

    def _reserve_more(self, calls: int) -> None:
        if self.reservation is None:
            self.calls += calls
            return
        try:
            reservations.extend(self.reservation, calls=calls)
            self.left += calls
        except ReservationClosed as closed:
            self._start_again(closed, calls=self.left + calls)

    def _start_again(self, closed: ReservationClosed, *, calls: int) -> None:
        """While limits are only observed, the next dispatch takes what is left from a new reservation."""
        if get_status().enforcement == "enforce":
            raise closed
        if self.reservation is not None:
            reservations.settle(self.reservation)
        self.reservation, self.calls = None, max(1, calls)

    def _ask(self, method: str, path: str, isbns_asked: int | None) -> DispatchedCall | timedelta:
        if self.reservation is not None:
            try:
                return reservations.dispatch(self.reservation, method=method, path=path, isbns_asked=isbns_asked)
            except ReservationClosed as closed:
                self._start_again(closed, calls=self.left)
        self.reservation, answer = reservations.reserve_and_dispatch(
            consumer=self.consumer,
            operation=self.operation,
            calls=self.calls,
            source=self.source,
            method=method,
            path=path,
            isbns_asked=isbns_asked,
        )
        self.left = self.calls
        structlog.contextvars.bind_contextvars(reservation=str(self.reservation))
        return answer


@contextmanager
def spending(*, consumer: str, operation: str, calls: int, source: str = "") -> Iterator[Spender]:
    """Spends up to `calls` calls for one operation of the consumer (a slug). What was not dispatched goes back.

    `calls` is what the whole operation needs. The first dispatch reserves all of them or raises QuotaRefused, so an
    operation that cannot be covered sends nothing. It cannot be used inside a transaction.
    """
    spender = Spender(consumer=consumer, operation=operation, calls=calls, source=source)
    with structlog.contextvars.bound_contextvars(consumer=consumer, operation=operation, reservation=None):
        try:
            yield spender
        finally:
            if spender.reservation is not None:
                try:
                    reservations.settle(spender.reservation)
                except QuotaUnavailable:
                    # The lease gives back what is left. How the block ended is more important.
                    log.exception("quota.settle_failed")
