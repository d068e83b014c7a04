"""Everything that writes to the quota: reserve, dispatch, record, settle, expire, and the day's ledger.

Each service is one statement in a transaction of its own; the SQL behind them, which locks, checks and writes, is
in `quota/sql/`. The rest of the code spends calls through `quota.spending` and nothing else.
"""

import time
import uuid
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection

from quota.database import FIELDS, FIELDS_OF_DECISION, Decision, ask, reachable
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
from quota.metrics import measured
from quota.models import Call, Consumer, DailyLedger
from quota.selectors.status import effective_limits, get_status
from quota.services.refusals import Asker, record_refusal

log = structlog.get_logger(__name__)

LEASE = timedelta(minutes=2)
"""How long a reservation lives after its last dispatch: longer than a call with its time-out and storing its answer."""

MAX_SLOT_DISTANCE = timedelta(seconds=1)
"""No call is spent for a send time further away: when ISBNdb asks us to slow down, few are already under way."""

NAP = timedelta(seconds=0.5)
"""A shorter pause keeps its database connection: to give it back and make another costs more than it frees."""

EXTERNAL = "external"
"""The consumer to whom calls made outside Alexandria are put down."""


@dataclass
class DispatchedCall:
    """One spent call, and the right to send one request, which `claim` uses up."""

    id: int
    reservation: uuid.UUID
    day: date
    send_at: datetime
    send_after: float  # on this process's monotonic clock
    send_before: float
    claimed: bool = False

    def claim(self) -> None:
        """Waits until the call may be sent and hands out the right to send it, once.

        Raises SendWindowMissed (spent, not to be sent) and RuntimeError when it was claimed before.
        """
        if self.claimed:
            raise RuntimeError(f"Call {self.id} was claimed before: a second request takes a call of its own.")
        self.claimed = True
        sleep_until(self.send_after)
        if time.monotonic() >= self.send_before:
            raise SendWindowMissed(f"Call {self.id} came too close to midnight UTC.")


def reserve(
    *,
    consumer: str,
    operation: str,
    calls: int,
    source: str = "",
    lease: timedelta = LEASE,
) -> uuid.UUID:
    """Sets `calls` aside for one operation of the consumer (a slug) today and returns the reservation's id.

    `source` is what the caller says it is for, for the record.

    Raises QuotaRefused, ConsumerUnknown, ConsumerInactive and QuotaUnavailable.
    """
    reservation, _ = _reserve(
        [consumer, operation, source, calls],
        [None, None, None, lease.total_seconds(), 0.0, settings.QUOTA_ENFORCEMENT],
    )
    return reservation


def dispatch(
    reservation: uuid.UUID,
    *,
    method: str,
    path: str,
    isbns_asked: int | None = None,
    lease: timedelta = LEASE,
    max_slot_distance: timedelta = MAX_SLOT_DISTANCE,
) -> DispatchedCall | timedelta:
    """Spends one call of the reservation and writes its journal row, committed when this returns.

    `method`, `path` and `isbns_asked` say what will be sent. Returns the call, or, when the pace has no send time
    within `max_slot_distance`, how far away that time is; then nothing was spent.

    Raises QuotaRefused (the day is closed, midnight is near), ReservationClosed, ReservationSpent and
    QuotaUnavailable.
    """
    asked_at = time.monotonic()
    what = [reservation, method, path, isbns_asked]
    bounds = [lease.total_seconds(), max_slot_distance.total_seconds(), settings.QUOTA_ENFORCEMENT]
    sql = f"SELECT {FIELDS} FROM quota_dispatch(%s, %s, %s, %s, %s, %s, quota_enforces(%s))"  # noqa: S608 (names)
    with measured("dispatch") as step:
        decision = step.decided(Decision(*ask(sql, [*what, *bounds])))
    _raise_unless_granted(decision, asked=1, asker=Asker(reservation=reservation))
    return _dispatched(reservation, decision, asked_at)


def reserve_and_dispatch(
    *,
    consumer: str,
    operation: str,
    calls: int,
    method: str,
    path: str,
    isbns_asked: int | None = None,
    source: str = "",
    lease: timedelta = LEASE,
    max_slot_distance: timedelta = MAX_SLOT_DISTANCE,
) -> tuple[uuid.UUID, DispatchedCall | timedelta]:
    """`reserve` and the first `dispatch` in one statement; returns what both return and raises what both raise."""
    asked_at = time.monotonic()
    reservation, decision = _reserve(
        [consumer, operation, source, calls],
        [
            method,
            path,
            isbns_asked,
            lease.total_seconds(),
            max_slot_distance.total_seconds(),
            settings.QUOTA_ENFORCEMENT,
        ],
    )
    return reservation, _dispatched(reservation, decision, asked_at)


def extend(reservation: uuid.UUID, *, calls: int = 1, lease: timedelta = LEASE) -> None:
    """Sets `calls` more aside for the reservation, under the same limits as `reserve`, and raises as it does."""
    if calls < 1:
        raise ValueError(f"calls must be at least 1, not {calls}.")
    sql = f"SELECT {FIELDS} FROM quota_extend(%s, %s, %s, quota_enforces(%s))"  # noqa: S608 (names of columns)
    with measured("extend") as step:
        decision = step.decided(
            Decision(*ask(sql, [reservation, calls, lease.total_seconds(), settings.QUOTA_ENFORCEMENT]))
        )
    _raise_unless_granted(decision, asked=calls, asker=Asker(reservation=reservation))


def shrink(reservation: uuid.UUID, *, left: int) -> int:
    """Gives back what is set aside beyond `left` calls still to be dispatched; returns how many calls went back."""
    return int(ask("SELECT quota_shrink(%s, %s)", [reservation, left])[0])


def record(
    call: DispatchedCall,
    outcome: Call.Outcome,
    *,
    status: int | None = None,
    latency_ms: int | None = None,
    isbns_found: int | None = None,
    error: str = "",
) -> None:
    """Writes into the journal what became of a dispatched call. Raises QuotaUnavailable."""
    with reachable():
        Call.objects.filter(pk=call.id).update(
            outcome=outcome, status=status, latency_ms=latency_ms, isbns_found=isbns_found, error=error[:1000]
        )


def settle(reservation: uuid.UUID) -> int:
    """Closes the reservation and returns how many calls went back. Closing it twice is no error."""
    return int(ask("SELECT quota_settle(%s)", [reservation])[0])


def expire() -> int:
    """Closes every reservation whose lease ran out or whose day is over; returns how many."""
    with reachable():
        days = list(
            DailyLedger.objects.filter(reservations__state="open")
            .order_by("day")
            .values_list("day", flat=True)
            .distinct()
        )
    closed = sum(int(ask("SELECT quota_expire(%s)", [day])[0]) for day in days)
    if closed:
        log.warning("quota.leases_expired", reservations=closed)
    return closed


def open_ledger() -> bool:
    """Opens today's ledger with the limits in force; True when it was not open yet. Nothing is ever reset."""
    limits = effective_limits()
    day = ask("SELECT quota_open(%s, %s, %s)", [limits.daily_limit, limits.safety_buffer, limits.max_rps])[0]
    if day:
        log.info("quota.ledger_opened", day=str(day), daily_limit=limits.daily_limit)
    return day is not None


def increment(calls: int, *, consumer: str = EXTERNAL, operation: str = "external", note: str = "") -> None:
    """Puts `calls` made outside Alexandria on today's ledger and journal, past any limit.

    Raises ValueError for less than one call, ConsumerUnknown and QuotaUnavailable.
    """
    if calls < 1:
        raise ValueError(f"calls must be at least 1, not {calls}.")
    with reachable():
        if consumer == EXTERNAL:
            Consumer.objects.get_or_create(slug=EXTERNAL)
        elif not Consumer.objects.filter(slug=consumer).exists():
            raise ConsumerUnknown(f"There is no consumer {consumer!r}.")
    while not ask("SELECT quota_increment(%s, %s, %s, %s)", [consumer, operation, calls, note])[0]:
        open_ledger()
    log.warning("quota.incremented", calls=calls, consumer=consumer, note=note)


def slow_down(call: DispatchedCall, *, seconds: float) -> None:
    """ISBNdb found the fleet too fast: nobody is given a send time for `seconds`."""
    while not ask("SELECT quota_slow_down(%s)", [seconds])[0]:  # midnight has come: it holds for the new day too
        open_ledger()
    log.warning("quota.slowed_down", call=call.id, seconds=seconds)


def close_day(call: DispatchedCall, *, reason: str) -> None:
    """ISBNdb said that the quota of the call's day is gone: nothing more is dispatched on it, by anybody."""
    if ask("SELECT quota_close_day(%s, %s)", [call.day, reason[:1000]])[0]:
        log.error("quota.day_closed", day=str(call.day), call=call.id, reason=reason)


def sleep_until(moment: float) -> None:
    """Sleeps until `moment` of the monotonic clock, holding no database connection for longer than NAP."""
    pause = moment - time.monotonic()
    if pause >= NAP.total_seconds():
        connection.close()
    if pause > 0:
        time.sleep(pause)


def _reserve(what: list[Any], first_call: list[Any]) -> tuple[uuid.UUID, Decision]:
    """Calls the SQL function quota_reserve, opening today's ledger when it is not open yet."""
    consumer, operation, source, asked = what
    if asked < 1:
        raise ValueError(f"calls must be at least 1, not {asked}.")
    arguments = "%s, %s, %s, %s, %s, %s, %s, %s, %s, quota_enforces(%s)"
    sql = f"SELECT reservation, {FIELDS_OF_DECISION} FROM quota_reserve({arguments})"  # noqa: S608 (names of columns)
    with measured("reserve" if first_call[0] is None else "reserve_and_dispatch") as step:
        reservation, *figures = ask(sql, [*what, *first_call])
        while (decision := step.decided(Decision(*figures))).outcome == "unopened":  # twice, when midnight is near
            open_ledger()
            reservation, *figures = ask(sql, [*what, *first_call])
    _raise_unless_granted(decision, asked=asked, asker=Asker(consumer, operation, source))
    return reservation, decision


def _raise_unless_granted(decision: Decision, *, asked: int, asker: Asker) -> None:
    match decision.outcome:
        case "granted" | "wait":
            if decision.broken_limit:
                log.warning("quota.observed", limit=decision.broken_limit, asked=asked, free=decision.free)
            return
        case "closed":
            status = get_status()
            if decision.day is not None and (decision.day != status.day or status.midnight_is_near):
                raise DayOver("The day of the reservation is over.")
            raise ReservationClosed("The reservation was closed, by whoever released it or because its lease ran out.")
        case "spent":
            raise ReservationSpent("Every call of the reservation is dispatched.")
        case "unknown_consumer":
            raise ConsumerUnknown("There is no such consumer.")
        case "inactive":
            raise ConsumerInactive("This consumer is switched off.")
        case "harvest_off":
            raise HarvestSwitchedOff("Harvesting is switched off: crons and bulk work are refused every call.")
        case limit:
            free, retry_at = decision.free or 0, decision.retry_at
            refusal_id = record_refusal(decision, asked=asked, asker=asker)
            log.warning(
                "quota.refused", limit=limit, asked=asked, free=free, retry_at=str(retry_at), refusal=str(refusal_id)
            )
            raise QuotaRefused(limit=limit, asked=asked, free=free, retry_at=retry_at, refusal_id=refusal_id)


def _dispatched(reservation: uuid.UUID, decision: Decision, asked_at: float) -> DispatchedCall | timedelta:
    """`asked_at`: the monotonic clock before the database was asked, so that a slow answer shortens the window."""
    match decision:
        case Decision(outcome="wait", send_in=float(distance)):
            return timedelta(seconds=distance)
        case Decision(day=date() as day, call=int(call), send_at=datetime() as send_at) if (
            decision.send_in is not None and decision.valid_for is not None
        ):
            return DispatchedCall(
                id=call,
                reservation=reservation,
                day=day,
                send_at=send_at,
                send_after=time.monotonic() + decision.send_in,
                send_before=asked_at + decision.valid_for,
            )
    raise RuntimeError(f"A granted call without its figures: {decision}")
