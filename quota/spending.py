"""The only way in which other apps spend calls. However an operation ends, what it has reserved goes back."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import structlog

from alexandria.common.turns import take_turn
from quota.exceptions import QuotaUnavailable, ReservationClosed, ReservationSpent
from quota.prices import RequestKind
from quota.selectors.status import get_status
from quota.services import reservations
from quota.services.reservations import IN_BACKGROUND, DispatchedCall

log = structlog.get_logger(__name__)

MAX_PACE_WAIT = timedelta(seconds=30)
"""How long a request waits for a send time at most."""


@contextmanager
def in_background() -> Iterator[None]:
    """Nobody waits for the answers of the block: jobs, crons, bulk harvests. Clients that wait come first."""
    token = IN_BACKGROUND.set(True)
    try:
        yield
    finally:
        IN_BACKGROUND.reset(token)


class Payer(Protocol):
    """Who pays for the requests of a question to ISBNdb: each attempt is a request."""

    @property
    def left(self) -> int:
        """Calls reserved and not dispatched."""

    def dispatch(
        self, kind: RequestKind, method: str, path: str, *, isbns_asked: int | None = None
    ) -> DispatchedCall | timedelta:
        """Spends the price of the request; or returns the time after which the pace may have a send time for it.

        Raises what `reserve`, `extend` and `dispatch` of the reservations raise.
        """

    @property
    def log_fields(self) -> dict[str, str]:
        """Who pays and for what, for the log."""

    def extend(self, calls: int) -> None:
        """Reserves `calls` more, for a retry. Raises what `reservations.extend` raises."""

    def done(self) -> None:
        """The question is over: it was answered, or it has failed, or it is not sent any more."""


@dataclass
class Spender:
    """The calls of one operation, made by `spending`. The first dispatch makes the reservation."""

    consumer: str
    operation: str
    calls: int
    source: str = ""
    reservation: uuid.UUID | None = None
    left: int = 0  # calls reserved and not dispatched
    for_one_question: bool = False
    dispatched: list[DispatchedCall] = field(default_factory=list)

    @property
    def calls_spent(self) -> int:
        """The prices of all requests that were dispatched, in calls."""
        return sum(call.price for call in self.dispatched)

    @property
    def log_fields(self) -> dict[str, str]:
        """The consumer and the operation."""
        return {"consumer": self.consumer, "operation": self.operation}

    def release_beyond(self, calls: int) -> None:
        """Gives back the reserved calls beyond `calls`, which is what the operation still needs."""
        if self.reservation is not None and calls < self.left:
            reservations.shrink(self.reservation, left=calls)
            self.left = calls

    def dispatch(
        self, kind: RequestKind, method: str, path: str, *, isbns_asked: int | None = None
    ) -> DispatchedCall | timedelta:
        """Spends the price of the request that is described, if the pace has a send time for it now.

        If the request costs more than is left of the reservation, the missing calls are reserved first: a price can
        rise, and a batch that is too large is asked for in halves. Returns the time after which another try makes
        sense if there is no send time.

        Raises what `reserve`, `extend` and `dispatch` of the reservations raise.
        """
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

    def done(self) -> None:
        """Settles the reservation if it was made for one question."""
        if self.for_one_question:
            self.settle()

    def settle(self) -> None:
        """Gives back what was not dispatched. If the database does not answer, the end of the lease does that."""
        if self.reservation is not None:
            try:
                reservations.settle(self.reservation)
            except QuotaUnavailable:
                log.exception("quota.settle_failed")

    def hold(self, calls: int) -> None:
        """Reserves as many calls as are missing until `calls` are left, also before the first dispatch.

        Raises what `reservations.reserve` and `extend` raise.
        """
        if self.reservation is not None and calls > self.left:
            self._reserve_more(calls - self.left)
        if self.reservation is None:
            self.reservation = reservations.reserve(
                consumer=self.consumer, operation=self.operation, calls=calls, source=self.source
            )
            self.left = calls
            self._name_in_log()

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
            self.start_again(closed, calls=self.left + calls)

    def start_again(self, closed: ReservationClosed, *, calls: int) -> None:
        """Lets the next dispatch take what is left from a new reservation.

        For one question only, because its lease can run out while other questions are asked again; and for a whole
        operation, while limits are only observed.
        """
        if not self.for_one_question and get_status().enforcement == "enforce":
            raise closed
        if self.reservation is not None:
            reservations.settle(self.reservation)
        self.reservation, self.calls, self.left = None, calls, 0

    def _ask(self, kind: RequestKind, method: str, path: str, isbns_asked: int | None) -> DispatchedCall | timedelta:
        if self.reservation is not None:
            try:
                return reservations.dispatch(
                    self.reservation, kind=kind, method=method, path=path, isbns_asked=isbns_asked
                )
            except ReservationClosed as closed:
                self.start_again(closed, calls=self.left)
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
        self._name_in_log()
        return answer

    def _name_in_log(self) -> None:
        if not self.for_one_question:  # otherwise several are under way
            structlog.contextvars.bind_contextvars(reservation=str(self.reservation))


def for_one_question(*, consumer: str, operation: str, source: str = "") -> Spender:
    """The payer of one question to ISBNdb: its reservation is settled when the question is over.

    So an operation can have many questions under way, and each dies alone. See `spending` for the parameters.
    """
    return Spender(consumer, operation, calls=0, source=source, for_one_question=True)


@contextmanager
def spending(*, consumer: str, operation: str, calls: int, source: str = "") -> Iterator[Spender]:
    """Spends up to `calls` calls for one operation of the consumer (a slug). What was not dispatched goes back.

    `calls` is what the whole operation needs; 0 if it is one request, or requests that are free. The first dispatch
    reserves all of them, and at least its own price, or raises QuotaRefused: an operation that cannot be covered sends
    nothing. It cannot be used inside a transaction. In a web request it takes a turn, or raises TooManyAtOnce.
    """
    take_turn()
    spender = Spender(consumer=consumer, operation=operation, calls=calls, source=source)
    with structlog.contextvars.bound_contextvars(consumer=consumer, operation=operation, reservation=None):
        try:
            yield spender
        finally:
            spender.settle()
