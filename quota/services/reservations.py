"""The writes of the quota: reserve, dispatch, record, settle and expire calls, and open the day's ledger.

Each service is one statement in a transaction of its own. It calls a function of `quota/sql/functions.sql`, which
locks, looks and writes. Other apps spend calls through `quota.spending` only.
"""

import time
import uuid
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection
from django.db.models import Case, Expression, IntegerField, Q, Value, When
from django.db.models.functions import Cast

from quota.database import FIELDS, FIELDS_OF_DECISION, Decision, Params, ask, reachable
from quota.decision_times import measured
from quota.exceptions import (
    ConsumerInactive,
    ConsumerUnknown,
    DayOver,
    HarvestSwitchedOff,
    QuotaRefused,
    ReservationClosed,
    ReservationSpent,
    SendWindowMissed,
)
from quota.limits import SWITCHED_OFF
from quota.models import Call, Consumer, DailyLedger
from quota.prices import RequestKind
from quota.selectors.status import effective_limits, get_status
from quota.services.refusals import Asker, record_refusal

log = structlog.get_logger(__name__)

LEASE = timedelta(minutes=2)
"""How long a reservation lives after its last dispatch: longer than a request with its time-out and its storing."""

MAX_SLOT_DISTANCE = timedelta(seconds=2.1)
"""No send time is further ahead: two intervals of the slowest pace, one request a second."""

NAP = timedelta(seconds=0.5)
"""A shorter pause keeps its database connection: to close it and open another costs more than it frees."""

IN_BACKGROUND: ContextVar[bool] = ContextVar("in_background", default=False)
"""Whether nobody waits for the answers of the requests that are dispatched. `quota.spending.in_background` sets it."""

EXTERNAL = "external"
"""The consumer to which calls made outside Alexandria are charged."""

# Selected with named columns: `SELECT (f()).*` would call f once for each column.
_RESERVE = f"""
    SELECT reservation, {FIELDS_OF_DECISION} FROM quota_reserve(
        p_consumer => %(consumer)s, p_operation => %(operation)s, p_source => %(source)s, p_calls => %(calls)s,
        p_lease => %(lease)s, p_enforce => quota_enforces(p_default => %(enforcement)s)
    )"""  # noqa: S608 (names of columns)
_RESERVE_AND_DISPATCH = f"""
    SELECT reservation, {FIELDS_OF_DECISION} FROM quota_reserve(
        p_consumer => %(consumer)s, p_operation => %(operation)s, p_source => %(source)s, p_calls => %(calls)s,
        p_lease => %(lease)s, p_enforce => quota_enforces(p_default => %(enforcement)s),
        p_kind => %(kind)s, p_method => %(method)s, p_path => %(path)s, p_isbns_asked => %(isbns_asked)s,
        p_urgent => %(urgent)s, p_batch_price => %(batch_price)s
    )"""  # noqa: S608 (names of columns)
_DISPATCH = f"""
    SELECT {FIELDS} FROM quota_dispatch(
        p_reservation => %(reservation)s, p_kind => %(kind)s, p_method => %(method)s, p_path => %(path)s,
        p_isbns_asked => %(isbns_asked)s, p_lease => %(lease)s, p_urgent => %(urgent)s,
        p_enforce => quota_enforces(p_default => %(enforcement)s), p_batch_price => %(batch_price)s
    )"""  # noqa: S608 (names of columns)
_MOVE = f"""
    SELECT {FIELDS} FROM quota_move(
        p_call => %(call)s, p_lease => %(lease)s, p_urgent => %(urgent)s,
        p_enforce => quota_enforces(p_default => %(enforcement)s)
    )"""  # noqa: S608 (names of columns)
_EXTEND = f"""
    SELECT {FIELDS} FROM quota_extend(
        p_reservation => %(reservation)s, p_calls => %(calls)s, p_lease => %(lease)s,
        p_enforce => quota_enforces(p_default => %(enforcement)s)
    )"""  # noqa: S608 (names of columns)
_SHRINK = "SELECT quota_shrink(p_reservation => %(reservation)s, p_left => %(left)s)"
_SETTLE = "SELECT quota_settle(p_reservation => %(reservation)s)"
_EXPIRE = "SELECT quota_expire(p_day => %(day)s)"
_OPEN = """
    SELECT quota_open(
        p_daily_limit => %(daily_limit)s, p_safety_buffer => %(safety_buffer)s, p_max_rps => %(max_rps)s
    )"""
_INCREMENT = """
    SELECT quota_increment(
        p_consumer => %(consumer)s, p_operation => %(operation)s, p_calls => %(calls)s, p_note => %(note)s
    )"""
_SLOW_DOWN = "SELECT quota_slow_down(p_seconds => %(seconds)s, p_reason => %(reason)s)"
_CLAIM_SETTLING = "SELECT quota_claim_settling(p_day => %(day)s, p_seconds => %(seconds)s)"
_CLOSE_DAY = "SELECT quota_close_day(p_day => %(day)s, p_reason => %(reason)s)"


@dataclass
class DispatchedCall:
    """A request whose price is spent, and the right to send it once. `claim` uses that right up.

    `id`: the journal row. `price`: in calls. `is_shared`: other journal rows hold shares of its price.
    """

    id: int
    price: int
    reservation: uuid.UUID
    day: date
    send_at: datetime
    send_after: float  # on this process's monotonic clock
    send_before: float
    is_shared: bool = False
    claimed: bool = False

    def claim(self) -> None:
        """Waits until the request may be sent and gives the right to send it, once.

        Raises SendWindowMissed (the request is paid and must not be sent), and RuntimeError when it was claimed before.
        """
        if self.claimed:
            raise RuntimeError(f"Request {self.id} was claimed before. A second one needs a dispatch of its own.")
        self.claimed = True
        sleep_until(self.send_after)
        if time.monotonic() >= self.send_before:
            raise SendWindowMissed(f"Request {self.id} is too close to midnight UTC and is not sent.")


def reserve(*, consumer: str, operation: str, calls: int, source: str = "", lease: timedelta = LEASE) -> uuid.UUID:
    """Reserves `calls` of today for one operation of the consumer (a slug) and returns the reservation's id.

    `source`: what the caller says it is for; it is kept on record.

    Raises QuotaRefused, ConsumerUnknown, ConsumerInactive and QuotaUnavailable, and ValueError for less than one call.
    """
    if calls < 1:
        raise ValueError(f"calls must be at least 1, not {calls}.")
    params = _params(lease, consumer=consumer, operation=operation, source=source, calls=calls)
    reservation, decision = _ask_to_reserve("reserve", _RESERVE, params)
    raise_unless_granted(decision, asker=Asker(consumer, operation, source))
    return reservation


def dispatch(
    reservation: uuid.UUID,
    *,
    kind: RequestKind,
    method: str,
    path: str,
    isbns_asked: int | None = None,
    lease: timedelta = LEASE,
) -> DispatchedCall | timedelta:
    """Spends the price of one request and writes its journal row. Both are committed when this returns.

    `kind`, `method`, `path` and `isbns_asked` describe the request. Returns the dispatched request. If the pace has no
    send time for it now, nothing is spent, and the time after which another try makes sense is returned instead.

    Raises QuotaRefused (the day is closed, or midnight is near), ReservationClosed, ReservationSpent (the reservation
    holds fewer calls than the price), ConsumerInactive and QuotaUnavailable.
    """
    asked_at = time.monotonic()
    request = {"kind": kind, "method": method, "path": path, "isbns_asked": isbns_asked}
    decision = decide("dispatch", _DISPATCH, lease, reservation=reservation, **request)
    raise_unless_granted(decision, asker=Asker(reservation=reservation))
    return dispatched_call(reservation, decision, asked_at)


def reserve_and_dispatch(
    *,
    consumer: str,
    operation: str,
    calls: int,
    kind: RequestKind,
    method: str,
    path: str,
    isbns_asked: int | None = None,
    source: str = "",
    lease: timedelta = LEASE,
) -> tuple[uuid.UUID, int, DispatchedCall | timedelta]:
    """`reserve` and the first `dispatch` in one statement. Raises what both raise.

    It reserves at least the price of the first request, so `calls` may be 0. Returns the reservation's id, the number
    of calls reserved, and what `dispatch` returns.
    """
    asked_at = time.monotonic()
    request = {"kind": kind, "method": method, "path": path, "isbns_asked": isbns_asked}
    params = _params(lease, consumer=consumer, operation=operation, source=source, calls=calls, **request)
    reservation, decision = _ask_to_reserve("reserve_and_dispatch", _RESERVE_AND_DISPATCH, params)
    raise_unless_granted(decision, asker=Asker(consumer, operation, source))
    return reservation, decision.asked or 0, dispatched_call(reservation, decision, asked_at)


def move(call: DispatchedCall) -> timedelta | None:
    """Gives a request that was dispatched and not sent in time another send time, in `call`. Its price stays spent.

    Returns the time after which another try makes sense if the pace has no send time for it now. Raises QuotaRefused
    (the day is closed, or midnight is near: it must not be sent) and QuotaUnavailable.
    """
    asked_at = time.monotonic()
    decision = decide("move", _MOVE, call=call.id)
    raise_unless_granted(decision, asker=Asker(reservation=call.reservation))
    moved = dispatched_call(call.reservation, decision, asked_at)
    if isinstance(moved, timedelta):
        return moved
    call.send_at, call.send_after, call.send_before = moved.send_at, moved.send_after, moved.send_before
    return None


def extend(reservation: uuid.UUID, *, calls: int = 1, lease: timedelta = LEASE) -> None:
    """Reserves `calls` more for the reservation, under the same limits as `reserve`.

    Raises what `reserve` raises, and ReservationClosed.
    """
    if calls < 1:
        raise ValueError(f"calls must be at least 1, not {calls}.")
    decision = decide("extend", _EXTEND, lease, reservation=reservation, calls=calls)
    raise_unless_granted(decision, asker=Asker(reservation=reservation))


def shrink(reservation: uuid.UUID, *, left: int) -> int:
    """Gives back what is reserved beyond `left` calls that are still to be dispatched. Returns how many went back."""
    return int(ask(_SHRINK, {"reservation": reservation, "left": left})[0])


def record(
    call: DispatchedCall,
    outcome: Call.Outcome,
    *,
    status: int | None = None,
    latency_ms: int | None = None,
    isbns_found: int | None = None,
    error: str = "",
) -> None:
    """Writes the outcome of a dispatched request and its shares into the journal. Raises QuotaUnavailable."""
    rows = Q(pk=call.id)
    found: Expression = Cast(Value(isbns_found), IntegerField())
    if call.is_shared:
        rows, found = rows | Q(share_of=call.id), Case(When(pk=call.id, then=found))
    with reachable():
        Call.objects.filter(rows).update(
            outcome=outcome, status=status, latency_ms=latency_ms, isbns_found=found, error=error[:1000]
        )


def settle(reservation: uuid.UUID) -> int:
    """Closes the reservation and returns how many calls went back. To close it twice is no error."""
    return int(ask(_SETTLE, {"reservation": reservation})[0])


def expire() -> int:
    """Closes every reservation whose lease has run out or whose day is over. Returns how many."""
    with reachable():
        days = list(
            DailyLedger.objects.filter(reservations__state="open")
            .order_by("day")
            .values_list("day", flat=True)
            .distinct()
        )
    closed = sum(int(ask(_EXPIRE, {"day": day})[0]) for day in days)
    if closed:
        log.warning("quota.leases_expired", reservations=closed)
    return closed


def open_ledger() -> bool:
    """Opens today's ledger with the limits in force. True when it was not open yet. Nothing is ever reset."""
    limits = effective_limits()
    [day] = ask(_OPEN, asdict(limits))
    if day:
        log.info("quota.ledger_opened", day=str(day), daily_limit=limits.daily_limit)
    return day is not None


def increment(calls: int, *, consumer: str = EXTERNAL, operation: str = "external", note: str = "") -> None:
    """Adds `calls` made outside Alexandria to today's ledger and journal. No limit refuses them.

    Raises ValueError for less than one call, ConsumerUnknown and QuotaUnavailable.
    """
    if calls < 1:
        raise ValueError(f"calls must be at least 1, not {calls}.")
    with reachable():
        if consumer == EXTERNAL:
            Consumer.objects.get_or_create(slug=EXTERNAL)
        elif not Consumer.objects.filter(slug=consumer).exists():
            raise ConsumerUnknown(f"There is no consumer {consumer!r}.")
    params = {"consumer": consumer, "operation": operation, "calls": calls, "note": note}
    while not ask(_INCREMENT, params)[0]:
        open_ledger()
    log.warning("quota.incremented", calls=calls, consumer=consumer, note=note)


def slow_down(call: DispatchedCall | None = None, *, seconds: float, reason: str = "") -> None:
    """Gives out no send time for `seconds`. `reason`: for everybody. `call`: the one whose answer asks for it."""
    params = {"seconds": seconds, "reason": reason[:1000]}
    while not ask(_SLOW_DOWN, params)[0]:  # midnight has passed: the pause also holds for the new day
        open_ledger()
    log.warning("quota.slowed_down", call=call.id if call else None, seconds=seconds, reason=reason)


def claim_settling(call: DispatchedCall, *, every: timedelta) -> bool:
    """Whether this process may ask ISBNdb's counter now what an unclear answer means.

    If not, within `every` another process has claimed it, or the counter has answered.
    """
    return bool(ask(_CLAIM_SETTLING, {"day": call.day, "seconds": every.total_seconds()})[0])


def close_day(call: DispatchedCall, *, reason: str) -> None:
    """ISBNdb said that the quota of the call's day is used up: no consumer can dispatch on that day any more."""
    if ask(_CLOSE_DAY, {"day": call.day, "reason": reason[:1000]})[0]:
        log.error("quota.day_closed", day=str(call.day), call=call.id, reason=reason)


def sleep_until(moment: float) -> None:
    """Sleeps until `moment` of the monotonic clock. Holds no database connection during a sleep longer than NAP."""
    pause = moment - time.monotonic()
    if pause >= NAP.total_seconds():
        connection.close()
    if pause > 0:
        time.sleep(pause)


def decide(step_name: str, sql: str, lease: timedelta = LEASE, **params: Any) -> Decision:
    """Runs the statement of one decision, and measures how long it takes. See `_params`."""
    with measured(step_name) as step:
        return step.decided(Decision(*ask(sql, _params(lease, **params))))


def _params(lease: timedelta, **params: Any) -> Params:
    """`params`, and what the statements of all decisions need: each takes of it what it names."""
    return params | {
        "lease": lease.total_seconds(),
        "urgent": not IN_BACKGROUND.get(),
        "enforcement": settings.QUOTA_ENFORCEMENT,
        "batch_price": settings.ISBNDB_BATCH_PRICE,
    }


def _ask_to_reserve(step_name: str, sql: str, params: Params) -> tuple[uuid.UUID, Decision]:
    """Runs the statement, and opens today's ledger first when it is not open yet."""
    with measured(step_name) as step:
        reservation, *figures = ask(sql, params)
        while (decision := step.decided(Decision(*figures))).outcome == "unopened":  # twice near midnight
            open_ledger()
            reservation, *figures = ask(sql, params)
    return reservation, decision


def raise_unless_granted(decision: Decision, *, asker: Asker) -> None:
    asked = decision.asked or 0
    match decision.outcome:
        case "granted" | "wait":
            if decision.broken_limit:
                log.warning("quota.observed", limit=decision.broken_limit, asked=asked, free=decision.free)
            return
        case "closed":
            status = get_status()
            if decision.day is not None and (decision.day != status.day or status.midnight_is_near):
                raise DayOver("The day of the reservation is over.")
            raise ReservationClosed("The reservation was released, or its lease has run out.")
        case "spent":
            raise ReservationSpent("The reservation holds fewer calls than the request costs.", missing=asked)
        case "unknown_consumer":
            raise ConsumerUnknown("There is no such consumer.")
        case "inactive":
            raise ConsumerInactive(SWITCHED_OFF["inactive"].explanation)
        case "harvest_off":
            raise HarvestSwitchedOff(SWITCHED_OFF["harvest_off"].explanation)
        case limit:
            free, retry_at = decision.free or 0, decision.retry_at
            refusal_id = record_refusal(decision, asked=asked, asker=asker)
            log.warning(
                "quota.refused", limit=limit, asked=asked, free=free, retry_at=str(retry_at), refusal=str(refusal_id)
            )
            raise QuotaRefused(limit=limit, asked=asked, free=free, retry_at=retry_at, refusal_id=refusal_id)


def dispatched_call(
    reservation: uuid.UUID, decision: Decision, asked_at: float, *, is_shared: bool = False
) -> DispatchedCall | timedelta:
    """What a granted dispatch, or one that must wait for the pace, means for its caller.

    `asked_at`: the monotonic clock before the database was asked, so that a slow answer makes the window shorter.
    """
    match decision:
        case Decision(outcome="wait", send_in=float(distance)):
            return timedelta(seconds=distance)
        case Decision(day=date() as day, call=int(call), price=int(price), send_at=datetime() as send_at) if (
            decision.send_in is not None and decision.valid_for is not None
        ):
            return DispatchedCall(
                id=call,
                price=price,
                reservation=reservation,
                day=day,
                send_at=send_at,
                send_after=time.monotonic() + decision.send_in,
                send_before=asked_at + decision.valid_for,
                is_shared=is_shared,
            )
    raise RuntimeError(f"A granted call without its figures: {decision}")
