"""reservations.dispatch: one call spent, one journal row, one send time of the pace."""

import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from quota.database import Decision
from quota.exceptions import QuotaRefused, ReservationClosed, ReservationSpent, SendWindowMissed
from quota.models import Call, Consumer, DailyLedger, Reservation
from quota.prices import RequestKind
from quota.selectors.status import get_status
from quota.services import reservations
from quota.services.reservations import DispatchedCall, dispatched_call
from quota.services.shares import dispatch_shared
from tests.fixtures import NOON, At, stop_database_clock

MIDNIGHT = datetime(2026, 5, 6, tzinfo=UTC)
FAR = timedelta(days=1)
TYPE_OF_FIELD = """
    SELECT format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = 'quota_decision'::regclass AND attname = %s"""


@pytest.fixture
def reservation(consumer: Consumer) -> uuid.UUID:
    return reservations.reserve(consumer="reader", operation="test", calls=10, source="shelf 3", lease=FAR)


def dispatch(reservation: uuid.UUID) -> DispatchedCall:
    call = reservations.dispatch(reservation, kind=RequestKind.BATCH, method="POST", path="/books", isbns_asked=7)
    assert isinstance(call, DispatchedCall)
    return call


def test_a_dispatch_moves_one_call_from_reserved_to_used_and_writes_the_journal(reservation: uuid.UUID) -> None:
    call = dispatch(reservation)
    status = get_status()
    assert (status.used, status.reserved) == (1, 9)
    row = Call.objects.get()
    assert (row.id, row.reservation_id, row.consumer.slug, row.operation) == (call.id, reservation, "reader", "test")
    assert (row.method, row.path, row.isbns_asked, row.outcome) == ("POST", "/books", 7, "unknown")
    assert (row.reservation.source, row.send_at) == ("shelf 3", call.send_at)


def test_the_outcome_is_recorded_in_the_journal(reservation: uuid.UUID) -> None:
    call = dispatch(reservation)
    reservations.record(call, Call.Outcome.OK, status=200, latency_ms=12, isbns_found=6)
    row = Call.objects.get()
    assert (row.outcome, row.status, row.latency_ms, row.isbns_found) == ("ok", 200, 12, 6)


def test_send_times_are_never_more_than_max_rps_in_any_second(reservation: uuid.UUID, no_waits: None, at: At) -> None:
    times = [dispatch(reservation).send_at for _ in range(10)]
    assert all(later - earlier > timedelta(seconds=1) for earlier, later in zip(times, times[3:], strict=False))
    assert times[-1] - times[0] < timedelta(seconds=3.2)


def test_slowing_down_moves_the_next_send_time_of_every_consumer(reservation: uuid.UUID, at: At) -> None:
    call = dispatch(reservation)
    reservations.slow_down(call, seconds=60)
    other = reservations.reserve(consumer="reader", operation="other", calls=1)
    wait = reservations.dispatch(other, kind=RequestKind.PAGE, method="GET", path="/author/x")
    assert isinstance(wait, timedelta)
    assert timedelta(seconds=50) < wait <= timedelta(seconds=60)


def test_slowing_down_never_makes_a_send_time_earlier(reservation: uuid.UUID) -> None:
    call = dispatch(reservation)
    reservations.slow_down(call, seconds=60)
    before = DailyLedger.objects.get().next_dispatch_at
    reservations.slow_down(call, seconds=1)
    assert DailyLedger.objects.get().next_dispatch_at == before


def test_a_pause_requested_before_midnight_also_holds_after_it(reservation: uuid.UUID, no_waits: None) -> None:
    stop_database_clock(MIDNIGHT - timedelta(seconds=10))
    reservations.slow_down(dispatch(reservation), seconds=60)
    until = DailyLedger.objects.get().next_dispatch_at
    stop_database_clock(MIDNIGHT + timedelta(seconds=5))
    today = reservations.reserve(consumer="reader", operation="test", calls=1)
    assert dispatch(today).send_at == until > MIDNIGHT + timedelta(seconds=45)


def test_a_pause_requested_at_midnight_holds_for_the_new_day(reservation: uuid.UUID) -> None:
    stop_database_clock(MIDNIGHT - timedelta(seconds=3))
    call = dispatch(reservation)
    stop_database_clock(MIDNIGHT + timedelta(seconds=1))
    reservations.slow_down(call, seconds=60)
    assert DailyLedger.objects.get(day=MIDNIGHT.date()).next_dispatch_at > MIDNIGHT + timedelta(seconds=60)


def test_figures_are_read_by_name_in_any_order_of_the_sql_type(consumer: Consumer, no_waits: None) -> None:
    with connection.cursor() as cursor:

        def move_to_the_end(name: str) -> None:
            cursor.execute(TYPE_OF_FIELD, [name])
            [kind] = cursor.fetchone()
            cursor.execute(f"ALTER TYPE quota_decision DROP ATTRIBUTE {name}, ADD ATTRIBUTE {name} {kind}")

        first, *others = Decision._fields
        move_to_the_end(first)
        try:
            reservation, _, call = reservations.reserve_and_dispatch(
                consumer="reader", operation="test", calls=2, kind=RequestKind.PAGE, method="GET", path="/author/x"
            )
            assert isinstance(call, DispatchedCall)
            dispatch(reservation)
            reservations.extend(reservation)
        finally:
            for name in others:
                move_to_the_end(name)
    assert (get_status().used, get_status().reserved) == (2, 1)


def test_every_call_of_a_reservation_can_be_dispatched_and_no_more(reservation: uuid.UUID, no_waits: None) -> None:
    for _ in range(10):
        dispatch(reservation)
    with pytest.raises(ReservationSpent):
        dispatch(reservation)
    assert get_status().used == 10


def test_no_call_comes_from_a_settled_reservation(reservation: uuid.UUID) -> None:
    reservations.settle(reservation)
    with pytest.raises(ReservationClosed):
        dispatch(reservation)


def test_no_call_comes_from_a_reservation_whose_lease_has_run_out(consumer: Consumer) -> None:
    reservation = reservations.reserve(consumer="reader", operation="test", calls=1, lease=timedelta())
    with pytest.raises(ReservationClosed):
        dispatch(reservation)
    with pytest.raises(ReservationClosed):
        reservations.extend(reservation)


def test_no_call_comes_from_an_unknown_reservation(consumer: Consumer) -> None:
    with pytest.raises(ReservationClosed):
        dispatch(uuid.uuid4())


@pytest.mark.parametrize("seconds_to_midnight", [2, 1, 0.5])
def test_nothing_is_dispatched_in_the_last_two_seconds_of_a_day(
    reservation: uuid.UUID, seconds_to_midnight: float
) -> None:
    stop_database_clock(MIDNIGHT - timedelta(seconds=seconds_to_midnight))
    with pytest.raises(QuotaRefused) as caught:
        dispatch(reservation)
    assert (caught.value.limit, caught.value.retry_at) == ("midnight", MIDNIGHT + timedelta(seconds=2))
    assert not Call.objects.exists()


def test_a_pace_that_reaches_into_the_last_two_seconds_is_refused(reservation: uuid.UUID, no_waits: None) -> None:
    stop_database_clock(MIDNIGHT - timedelta(seconds=4))
    with pytest.raises(QuotaRefused) as caught:
        for _ in range(10):
            dispatch(reservation)
    assert caught.value.limit == "midnight"
    assert all(call.send_at < MIDNIGHT - timedelta(seconds=2) for call in Call.objects.all())


def test_the_first_call_of_a_day_is_sent_two_seconds_after_midnight(consumer: Consumer, no_waits: None) -> None:
    stop_database_clock(MIDNIGHT)
    reservation = reservations.reserve(consumer="reader", operation="test", calls=1)
    call = dispatch(reservation)
    assert call.send_at == MIDNIGHT + timedelta(seconds=2)
    assert call.day == MIDNIGHT.date()


def test_a_call_is_charged_to_the_day_of_the_databases_clock(consumer: Consumer) -> None:
    stop_database_clock(MIDNIGHT - timedelta(seconds=30))
    dispatch(reservations.reserve(consumer="reader", operation="test", calls=1))
    stop_database_clock(MIDNIGHT + timedelta(seconds=30))
    dispatch(reservations.reserve(consumer="reader", operation="test", calls=1))
    assert list(DailyLedger.objects.order_by("day").values_list("day__day", "used")) == [(5, 1), (6, 1)]


def test_reserving_and_dispatching_in_one_statement_does_what_both_do(consumer: Consumer) -> None:
    reservation, _, call = reservations.reserve_and_dispatch(
        consumer="reader",
        operation="test",
        calls=4,
        kind=RequestKind.BATCH,
        method="POST",
        path="/books",
        isbns_asked=7,
    )
    assert isinstance(call, DispatchedCall)
    assert Call.objects.get().reservation_id == reservation
    status = get_status()
    assert (status.used, status.reserved) == (1, 3)


def test_when_the_first_call_has_to_wait_the_reservation_stays_open(consumer: Consumer, reservation: uuid.UUID) -> None:
    reservations.slow_down(dispatch(reservation), seconds=60)
    made, _, wait = reservations.reserve_and_dispatch(
        consumer="reader", operation="x", calls=4, kind=RequestKind.PAGE, method="GET", path="/author/x"
    )
    assert isinstance(wait, timedelta)
    assert reservations.settle(made) == 4


def test_no_reserved_call_is_dispatched_once_calls_made_outside_have_reached_the_safety_limit(
    consumer: Consumer, settings
) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 20, 5
    reservation = reservations.reserve(consumer="reader", operation="test", calls=10)
    reservations.increment(14)
    dispatch(reservation)
    with pytest.raises(QuotaRefused) as caught:
        dispatch(reservation)
    assert (caught.value.limit, caught.value.free) == ("safety_limit", 0)
    assert get_status().used == 15


def test_a_batch_by_the_isbn_does_not_pass_the_safety_limit_that_calls_made_outside_have_come_near(
    consumer: Consumer, settings
) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER, settings.ISBNDB_BATCH_PRICE = 20, 5, "isbn"
    reservation = reservations.reserve(consumer="reader", operation="test", calls=14)
    reservations.increment(8)
    dispatch(reservation)
    with pytest.raises(QuotaRefused):
        dispatch(reservation)
    assert get_status().used == 15


def test_a_call_gives_the_right_to_send_once(reservation: uuid.UUID) -> None:
    call = dispatch(reservation)
    call.claim()
    with pytest.raises(RuntimeError, match="a dispatch of its own"):
        call.claim()


def test_a_slow_answer_of_the_database_makes_no_request_early_and_moves_no_midnight() -> None:
    """Its send time counts from the answer, and the end of its window from the question."""
    asked_at = time.monotonic() - 5
    nothing: dict[str, Any] = dict.fromkeys(Decision._fields)
    granted = {"outcome": "granted", "call": 1, "price": 1, "day": NOON.date(), "send_at": NOON}
    decision = Decision(**nothing | granted | {"send_in": 2.0, "valid_for": 8.0})
    before = time.monotonic()
    call = dispatched_call(uuid.uuid4(), decision, asked_at)
    assert isinstance(call, DispatchedCall)
    assert call.send_after >= before + 2
    assert call.send_before == asked_at + 8


def way_of_dispatch(way: str, reservation: uuid.UUID) -> DispatchedCall:
    """A request that is dispatched alone, with its reservation, as one of several payers, or moved to another slot."""
    if way == "with its reservation":
        _, _, first = reservations.reserve_and_dispatch(
            consumer="reader", operation="test", calls=1, kind=RequestKind.PAGE, method="GET", path="/author/x"
        )
        assert isinstance(first, DispatchedCall)
        return first
    if way == "shared":
        other = reservations.reserve(consumer="reader", operation="other", calls=7)
        shared = dispatch_shared([(reservation, 2), (other, 7)], method="POST", path="/books")
        assert isinstance(shared, DispatchedCall)
        return shared
    call = dispatch(reservation)
    if way == "moved":
        reservations.slow_down(call, seconds=70)
        assert reservations.move(call) is None
    return call


WAYS = ["alone", "with its reservation", "shared", "moved"]


@pytest.mark.parametrize("way", WAYS)
def test_a_lease_counts_from_the_send_time(consumer: Consumer, no_waits: None, at: At, settings, way: str) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    reservation = reservations.reserve(consumer="reader", operation="test", calls=7)
    reservations.slow_down(dispatch(reservations.reserve(consumer="reader", operation="x", calls=7)), seconds=60)
    at(1)
    call = way_of_dispatch(way, reservation)
    assert call.send_at >= NOON + timedelta(seconds=60)
    ends = Reservation.objects.exclude(operation="x").values_list("expires_at", flat=True)
    assert {end for end in ends if end > NOON + timedelta(seconds=150)} == {call.send_at + reservations.LEASE}
    assert len(ends) == {"shared": 2, "with its reservation": 2}.get(way, 1)
    if way == "shared":
        assert set(ends) == {call.send_at + reservations.LEASE}


def test_an_extension_extends_the_lease(consumer: Consumer, at: At) -> None:
    reservation = reservations.reserve(consumer="reader", operation="test", calls=1)
    at(100)
    reservations.extend(reservation)
    assert Reservation.objects.get().expires_at == NOON + timedelta(seconds=100) + reservations.LEASE


@pytest.mark.parametrize("way", WAYS)
def test_a_request_may_be_sent_until_two_seconds_before_midnight(
    consumer: Consumer, no_waits: None, settings, way: str
) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    stop_database_clock(MIDNIGHT - timedelta(seconds=90))
    call = way_of_dispatch(way, reservations.reserve(consumer="reader", operation="test", calls=7))
    to_midnight = (MIDNIGHT - call.send_at).total_seconds()
    assert 0 < call.send_before - call.send_after <= to_midnight - 2


@pytest.mark.parametrize("way", ["with its reservation", "moved"])
def test_nothing_is_sent_at_the_first_moment_of_the_guard(
    consumer: Consumer, no_waits: None, reservation: uuid.UUID, way: str
) -> None:
    stop_database_clock(MIDNIGHT - timedelta(seconds=10))
    call = dispatch(reservation)
    reservations.slow_down(call, seconds=8)
    if way == "moved":
        with pytest.raises(QuotaRefused) as caught:
            reservations.move(call)
        assert caught.value.limit == "midnight"
    else:
        _, _, wait = reservations.reserve_and_dispatch(
            consumer="reader", operation="test", calls=1, kind=RequestKind.PAGE, method="GET", path="/author/x"
        )
        assert isinstance(wait, timedelta)


@pytest.mark.slow
def test_a_claim_waits_until_the_send_time(reservation: uuid.UUID) -> None:
    dispatch(reservation)
    call = dispatch(reservation)
    call.claim()
    assert time.monotonic() >= call.send_after


@pytest.mark.slow
def test_a_call_that_is_late_for_midnight_must_not_be_sent(reservation: uuid.UUID) -> None:
    stop_database_clock(MIDNIGHT - timedelta(seconds=2.3))
    call = dispatch(reservation)
    call.send_after = call.send_before  # as if the process had been held up
    with pytest.raises(SendWindowMissed):
        call.claim()
    assert get_status().used == 1


def test_while_observing_calls_go_on_after_isbndb_closed_the_day(reservation: uuid.UUID, settings) -> None:
    reservations.close_day(dispatch(reservation), reason="Daily quota exceeded")
    settings.QUOTA_ENFORCEMENT = "observe"
    dispatch(reservation)
    assert get_status().used == 2
    assert get_status().closed_reason == "Daily quota exceeded"


def test_while_observing_a_call_waits_for_midnight_to_pass(reservation: uuid.UUID, settings) -> None:
    settings.QUOTA_ENFORCEMENT = "observe"
    stop_database_clock(MIDNIGHT - timedelta(seconds=1))
    wait = reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")
    assert isinstance(wait, timedelta)
    assert timedelta(seconds=2) < wait <= timedelta(seconds=3)


def test_calls_made_outside_are_recorded_even_past_the_limit(consumer: Consumer, settings) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 10, 2
    reservations.increment(50, note="found in ISBNdb's dashboard")
    status = get_status()
    assert (status.used, status.remaining, status.can_make_calls) == (50, 0, False)
    row = Call.objects.get()
    assert (row.calls, row.outcome, row.consumer.slug) == (50, "external", "external")
    assert row.error == "found in ISBNdb's dashboard"


@pytest.mark.parametrize("calls", [0, -3])
def test_less_than_one_call_made_outside_is_refused(consumer: Consumer, calls: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        reservations.increment(calls)


@pytest.mark.parametrize(
    ("kind", "path"), [(RequestKind.KEY, "/key"), (RequestKind.FEED, "/feeds/books/updates")], ids=["counter", "free"]
)
def test_what_goes_out_on_a_closed_day_also_gets_another_send_time_there(
    reservation: uuid.UUID, no_waits: None, kind: RequestKind, path: str
) -> None:
    """Otherwise a busy process, whose requests are late, would never see that calls are left again."""
    reservations.close_day(dispatch(reservation), reason="Daily quota exceeded")
    call = reservations.dispatch(reservation, kind=kind, method="GET", path=path)
    assert isinstance(call, DispatchedCall)
    assert reservations.move(call) is None
