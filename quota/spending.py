"""The only way in which other apps spend calls. However an operation ends, what it has reserved goes back."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from random import uniform

import structlog

from quota.exceptions import PaceTimeout, QuotaUnavailable, ReservationClosed, ReservationSpent
from quota.prices import RequestKind
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
    left: int = 0  # calls reserved and not dispatched
    dispatched: list[DispatchedCall] = field(default_factory=list)

    @property
    def calls_spent(self) -> int:
        """The prices of all requests that were dispatched, in calls."""
        return sum(call.price for call in self.dispatched)

    def release_beyond(self, calls: int) -> None:
        """Gives back the reserved calls beyond `calls`, which is what the operation still needs."""
        if self.reservation is not None and calls < self.left:
            reservations.shrink(self.reservation, left=calls)
            self.left = calls

    def dispatch(self, kind: RequestKind, method: str, path: str, *, isbns_asked: int | None = None) -> DispatchedCall:
        """Spends the price of the request that is described. Waits for the pace when it has to.

        If the request costs more than is left of the reservation, the missing calls are reserved first: a price can
        rise, and a batch that is too large is asked for in halves.

        Raises PaceTimeout after MAX_PACE_WAIT, and what `reserve`, `extend` and `dispatch` of the reservations raise.
        """
        deadline = time.monotonic() + MAX_PACE_WAIT.total_seconds()
        while True:
            try:
                answer = self._ask(kind, method, path, isbns_asked)
            except ReservationSpent as spent:
                self._reserve_more(spent.missing)
                continue
            if isinstance(answer, DispatchedCall):
                self.dispatched.append(answer)
                self.left -= answer.price
                return answer
            # A little jitter, so that not everything that waits asks at the same moment.
            pause = max(timedelta(), answer - MAX_SLOT_DISTANCE).total_seconds() + uniform(0.01, 0.1)  # noqa: S311
            if time.monotonic() + pause > deadline:
                raise PaceTimeout(
                    f"The fleet is busy: there was no send time within {MAX_PACE_WAIT.total_seconds():.0f} s."
                )
            reservations.sleep_until(time.monotonic() + pause)

    def hold(self, calls: int) -> None:
        """Reserves as many calls as are missing until `calls` are left, also before the first dispatch.

        Raises what `reservations.reserve` and `extend` raise.
        """
        if self.reservation is None:
            self.reservation = reservations.reserve(
                consumer=self.consumer, operation=self.operation, calls=calls, source=self.source
            )
            self.left = calls
            structlog.contextvars.bind_contextvars(reservation=str(self.reservation))
        elif calls > self.left:
            reservations.extend(self.reservation, calls=calls - self.left)
            self.left = calls

    def extend(self, calls: int) -> None:
        """Reserves `calls` more, for a retry. Raises what `reservations.extend` raises."""
        if not self.dispatched:
            raise RuntimeError("There is nothing to extend before the first dispatch.")
        if calls:
            self._reserve_more(calls)

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
        self.reservation, self.calls = None, calls

    def _ask(self, kind: RequestKind, method: str, path: str, isbns_asked: int | None) -> DispatchedCall | timedelta:
        if self.reservation is not None:
            try:
                return reservations.dispatch(
                    self.reservation, kind=kind, method=method, path=path, isbns_asked=isbns_asked
                )
            except ReservationClosed as closed:
                self._start_again(closed, calls=self.left)
        self.reservation, self.left, answer = reservations.reserve_and_dispatch(
            consumer=self.consumer,
            operation=self.operation,
            calls=self.calls,
            source=self.source,
            kind=kind,
            method=method,
            path=path,
            isbns_asked=isbns_asked,
        )
        structlog.contextvars.bind_contextvars(reservation=str(self.reservation))
        return answer


@contextmanager
def spending(*, consumer: str, operation: str, calls: int, source: str = "") -> Iterator[Spender]:
    """Spends up to `calls` calls for one operation of the consumer (a slug). What was not dispatched goes back.

    `calls` is what the whole operation needs; 0 if it is one request, or requests that are free. The first dispatch
    reserves all of them, and at least its own price, or raises QuotaRefused: an operation that cannot be covered sends
    nothing. It cannot be used inside a transaction.
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
