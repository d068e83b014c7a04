"""The one way in which the rest of the code spends calls: no exit path leaks a reservation."""

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
"""The longest that a dispatch waits for a send time."""


@dataclass
class Spender:
    """The calls of one operation; `spending` makes it. The reservation comes with the first dispatch."""

    consumer: str
    operation: str
    calls: int
    source: str = ""
    reservation: uuid.UUID | None = None
    left: int = 0  # set aside and not dispatched
    dispatched: list[DispatchedCall] = field(default_factory=list)

    def need(self, calls: int) -> None:
        """Says how many calls the operation still takes, beyond those dispatched: what is not needed goes back at once.

        When it is more than is set aside, the rest is set aside too; raises as `reservations.extend` does.
        Before the first dispatch it changes what that sets aside.
        """
        if self.reservation is None:
            self.calls = calls
        elif calls > self.left:
            self._set_aside_more(calls - self.left)
        elif calls < self.left:
            reservations.shrink(self.reservation, left=calls)
            self.left = calls

    def dispatch(self, method: str, path: str, *, isbns_asked: int | None = None) -> DispatchedCall:
        """Spends one call for the request described, after waiting for the pace if need be.

        Raises PaceTimeout after MAX_PACE_WAIT and whatever `reserve` and `dispatch` of the reservations raise.
        """
        deadline = time.monotonic() + MAX_PACE_WAIT.total_seconds()
        while True:
            answer = self._ask(method, path, isbns_asked)
            if isinstance(answer, DispatchedCall):
                self.dispatched.append(answer)
                self.left -= 1
                return answer
            # A little jitter, lest all who wait ask at the same moment.
            pause = max(timedelta(), answer - MAX_SLOT_DISTANCE).total_seconds() + uniform(0.01, 0.1)  # noqa: S311
            if time.monotonic() + pause > deadline:
                raise PaceTimeout(f"No send time within {MAX_PACE_WAIT.total_seconds():.0f} s: the fleet is busy.")
            reservations.sleep_until(time.monotonic() + pause)

    def extend(self) -> None:
        """Sets one more call aside, for a retry; raises as `reservations.extend` does."""
        if not self.dispatched:
            raise RuntimeError("There is nothing to extend before the first dispatch.")
        self._set_aside_more(1)

    def _set_aside_more(self, calls: int) -> None:
        if self.reservation is None:
            self.calls += calls
            return
        try:
            reservations.extend(self.reservation, calls=calls)
            self.left += calls
        except ReservationClosed as closed:
            self._begin_anew(closed, calls=self.left + calls)

    def _begin_anew(self, closed: ReservationClosed, *, calls: int) -> None:
        """Observing refuses nothing: what is left comes from a new reservation, with the next dispatch."""
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
                self._begin_anew(closed, calls=self.left)
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
    """Spends up to `calls` calls for one operation of the consumer (a slug); what was not dispatched goes back.

    `calls` is what the whole operation needs. The first dispatch sets all of them aside or raises QuotaRefused, so an
    operation that can't be covered sends nothing. Not for use inside a transaction.
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
                    # The lease gives back what is left; how the block ended matters more.
                    log.exception("quota.settle_failed")
