"""reservations.reserve and reservations.extend: which calls are granted, and which limit refuses."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from quota.exceptions import (
    ConsumerInactive,
    ConsumerUnknown,
    HarvestSwitchedOff,
    QuotaRefused,
    QuotaUnavailable,
    ReservationClosed,
    ShareNotPaid,
)
from quota.models import Consumer, ConsumerUsage, DailyLedger, Reservation, Switches
from quota.prices import RequestKind
from quota.selectors.status import check_ledger, get_status
from quota.services import reservations
from quota.services.shares import dispatch_shared
from tests.fixtures import At, SetClock, stop_database_clock

MIDNIGHT = datetime(2026, 5, 6, tzinfo=UTC)


@pytest.fixture(autouse=True)
def small_day(settings, consumer: Consumer) -> None:
    settings.QUOTA_DAILY_LIMIT = 120
    settings.QUOTA_SAFETY_BUFFER = 20
    settings.ISBNDB_BATCH_PRICE = "isbn"


def reserve(calls: int, consumer: str = "reader", **options: Any) -> uuid.UUID:
    return reservations.reserve(consumer=consumer, operation="test", calls=calls, **options)


def refusal(calls: int, consumer: str = "reader") -> tuple[str, int, int, datetime | None]:
    with pytest.raises(QuotaRefused) as caught:
        reserve(calls, consumer)
    error = caught.value
    return error.limit, error.asked, error.free, error.retry_at


def test_the_first_reservation_of_a_day_opens_its_ledger_with_the_settings_limits() -> None:
    reserve(7)
    ledger = DailyLedger.objects.get()
    assert (ledger.day.isoformat(), ledger.daily_limit, ledger.safety_limit) == ("2026-05-05", 120, 100)
    assert (ledger.used, ledger.reserved) == (0, 7)


def test_exactly_the_safety_limit_can_be_reserved_and_not_one_more() -> None:
    reserve(100)
    assert refusal(1) == ("safety_limit", 1, 0, MIDNIGHT)


def test_a_refusal_reserves_nothing() -> None:
    refusal(101)
    assert get_status().reserved == 0
    assert not Reservation.objects.exists()


def test_the_floor_keeps_calls_free_for_others() -> None:
    Consumer.objects.create(slug="cron", kind="cron", floor=30)
    reserve(10)
    assert refusal(61, "cron") == ("floor", 61, 60, MIDNIGHT)
    reserve(60, "cron")
    reserve(30)


def test_the_daily_budget_counts_the_used_and_reserved_calls_of_that_consumer_only() -> None:
    Consumer.objects.create(slug="frugal", daily_budget=10)
    reserve(60)
    reserve(4, "frugal")
    reservations.increment(3, consumer="frugal")
    assert refusal(4, "frugal") == ("daily_budget", 4, 3, MIDNIGHT)
    reserve(3, "frugal")


def test_a_budget_of_0_refuses_the_first_call() -> None:
    Consumer.objects.create(slug="broke", daily_budget=0)
    assert refusal(1, "broke") == ("daily_budget", 1, 0, None)


def test_there_is_no_retry_time_for_more_calls_than_any_day_grants() -> None:
    Consumer.objects.create(slug="frugal", daily_budget=10)
    Consumer.objects.create(slug="cron", kind="cron", floor=30)
    assert refusal(101) == ("safety_limit", 101, 100, None)
    assert refusal(71, "cron") == ("floor", 71, 70, None)
    assert refusal(11, "frugal") == ("daily_budget", 11, 10, None)
    reserve(1)
    assert refusal(70, "cron") == ("floor", 70, 69, MIDNIGHT)
    reserve(5, "frugal")
    assert refusal(10, "frugal") == ("daily_budget", 10, 5, MIDNIGHT)
    close_the_day()
    assert refusal(11, "frugal") == ("day_closed", 11, 0, None)


def test_after_the_cap_per_operation_has_refused_no_retry_can_succeed() -> None:
    Consumer.objects.create(slug="capped", cap_per_operation=5)
    assert refusal(6, "capped") == ("cap_per_operation", 6, 5, None)
    reserve(5, "capped")


def test_extending_counts_towards_the_cap_and_the_limits() -> None:
    Consumer.objects.create(slug="capped", cap_per_operation=5)
    reservation = reserve(4, "capped")
    reservations.extend(reservation)
    with pytest.raises(QuotaRefused) as caught:
        reservations.extend(reservation)
    assert (caught.value.limit, caught.value.free) == ("cap_per_operation", 0)
    assert get_status().reserved == 5


def test_before_an_extension_is_refused_the_leases_that_ran_out_go_back() -> None:
    reservation = reserve(50)
    reserve(50, lease=timedelta())
    reservations.extend(reservation, calls=50)
    assert get_status().reserved == 100
    with pytest.raises(QuotaRefused):
        reservations.extend(reservation)


def test_a_consumer_that_is_switched_off_cannot_extend() -> None:
    Consumer.objects.create(slug="cron", kind="cron")
    reservation, crons = reserve(1), reserve(1, "cron")
    Switches.objects.create(harvest_enabled=False)
    with pytest.raises(HarvestSwitchedOff):
        reservations.extend(crons)
    reservations.extend(reservation)
    Consumer.objects.update(active=False)
    with pytest.raises(ConsumerInactive):
        reservations.extend(reservation)
    assert get_status().reserved == 3


def test_a_switch_refuses_before_leases_that_ran_out_go_back() -> None:
    Consumer.objects.create(slug="off", active=False)
    reservation = reserve(50)
    reserve(50, lease=timedelta())
    with pytest.raises(ConsumerInactive):
        reserve(1, "off")
    Consumer.objects.filter(slug="reader").update(active=False)
    with pytest.raises(ConsumerInactive):
        reservations.extend(reservation)
    assert get_status().reserved == 100


def close_the_day() -> uuid.UUID:
    """A reservation with one call left, on a day that ISBNdb closed."""
    reservation = reserve(2)
    call = reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")
    assert isinstance(call, reservations.DispatchedCall)
    reservations.close_day(call, reason="Daily quota exceeded")
    return reservation


def test_a_day_that_isbndb_closed_grants_nothing() -> None:
    reservation = close_the_day()
    assert refusal(1) == ("day_closed", 1, 0, MIDNIGHT)
    with pytest.raises(QuotaRefused) as caught:
        reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")
    assert caught.value.limit == "day_closed"


@pytest.mark.parametrize("seconds_to_midnight", [2, 1.9])
def test_nothing_is_reserved_in_the_last_two_seconds_of_a_day(seconds_to_midnight: float) -> None:
    stop_database_clock(MIDNIGHT - timedelta(seconds=seconds_to_midnight))
    assert not get_status().can_make_calls
    assert refusal(1) == ("midnight", 1, 0, MIDNIGHT + timedelta(seconds=2))


def test_unknown_and_inactive_consumers_are_refused() -> None:
    with pytest.raises(ConsumerUnknown):
        reserve(1, "nobody")
    Consumer.objects.update(active=False)
    with pytest.raises(ConsumerInactive):
        reserve(1)


@pytest.mark.parametrize("calls", [0, -1])
def test_less_than_one_call_is_an_error_of_the_caller(calls: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        reserve(calls)


def test_calls_made_outside_are_recorded_even_when_their_day_is_not_open() -> None:
    reservations.increment(7)
    assert get_status().used == 7
    assert check_ledger(get_status().day) == []


@pytest.mark.parametrize("calls", [0, -4])
def test_a_reservation_cannot_be_extended_by_less_than_one_call(calls: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        reservations.extend(reserve(5), calls=calls)


def test_settling_gives_back_the_calls_that_were_not_dispatched_once() -> None:
    reservation = reserve(5)
    reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")
    assert [reservations.settle(reservation), reservations.settle(reservation)] == [4, 0]
    status = get_status()
    assert (status.used, status.reserved) == (1, 0)


def test_expire_gives_back_a_lease_that_has_run_out() -> None:
    reserve(5, lease=timedelta())
    kept = reserve(3)
    assert reservations.expire() == 1
    assert get_status().reserved == 3
    assert Reservation.objects.get(state="open").id == kept


def test_a_lease_that_has_run_out_blocks_no_call_even_before_expire_runs() -> None:
    reserve(100, lease=timedelta())
    reserve(60)
    assert get_status().reserved == 60


def test_at_the_moment_in_which_a_lease_ends_its_calls_are_free_and_none_is_spent(at: At) -> None:
    reservation, other = reserve(5, lease=timedelta(seconds=60)), reserve(5)
    at(60)
    with pytest.raises(ReservationClosed):
        reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")
    with pytest.raises(ReservationClosed):
        reservations.extend(reservation)
    with pytest.raises(ShareNotPaid):
        dispatch_shared([(other, 1), (reservation, 1)], method="POST", path="/books")
    assert reservations.expire() == 1
    assert (get_status().used, get_status().reserved) == (0, 5)


def test_every_dispatch_extends_the_lease() -> None:
    reservation = reserve(2, lease=timedelta(seconds=60))
    before = Reservation.objects.get().expires_at
    reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x", lease=timedelta(hours=1))
    assert Reservation.objects.get().expires_at > before + timedelta(minutes=50)


def test_calls_reserved_yesterday_neither_count_today_nor_come_back_today(set_clock: SetClock) -> None:
    reservation = reserve(90)
    set_clock(MIDNIGHT + timedelta(minutes=1))
    reserve(100)
    with pytest.raises(ReservationClosed):
        reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")
    reservations.settle(reservation)
    yesterday, today = DailyLedger.objects.order_by("day")
    assert (yesterday.reserved, today.reserved) == (0, 100)


def test_expire_closes_reservations_of_past_days_with_any_lease(set_clock: SetClock) -> None:
    reserve(9, lease=timedelta(days=3))
    set_clock(MIDNIGHT)
    assert reservations.expire() == 1
    assert check_ledger(MIDNIGHT.date() - timedelta(days=1)) == []


def test_a_new_day_leaves_yesterdays_figures_as_they_are(set_clock: SetClock) -> None:
    reservations.dispatch(reserve(1), kind=RequestKind.PAGE, method="GET", path="/author/x")
    set_clock(MIDNIGHT)
    assert reservations.open_ledger() is True
    assert reservations.open_ledger() is False
    assert [ledger.used for ledger in DailyLedger.objects.order_by("day")] == [1, 0]


def test_observing_counts_past_the_limit_and_refuses_nothing(settings) -> None:
    settings.QUOTA_ENFORCEMENT = "observe"
    reservation = reserve(150)
    reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")
    reservations.extend(reservation, calls=10)
    status = get_status()
    assert (status.used, status.reserved, status.remaining) == (1, 159, 0)
    assert status.can_make_calls


def test_while_observing_too_the_leases_that_ran_out_go_back_first(settings, caplog) -> None:
    settings.QUOTA_ENFORCEMENT = "observe"
    reserve(50, lease=timedelta())
    reservation = reserve(60)
    reserve(40, lease=timedelta())
    reservations.extend(reservation, calls=40)
    assert get_status().reserved == 100
    assert "quota.observed" not in caplog.text, "no limit would have refused these"


def test_the_use_of_each_consumer_is_stored_with_the_ledger() -> None:
    Consumer.objects.create(slug="other")
    reservations.dispatch(reserve(2), kind=RequestKind.PAGE, method="GET", path="/author/x")
    reserve(3, "other")
    rows = ConsumerUsage.objects.order_by("consumer__slug").values_list("consumer__slug", "used", "reserved")
    assert list(rows) == [("other", 0, 3), ("reader", 1, 1)]


def test_the_quota_refuses_to_work_inside_a_transaction_that_could_be_rolled_back() -> None:
    with transaction.atomic(), pytest.raises(transaction.TransactionManagementError):
        reserve(1)
    assert not Reservation.objects.exists()


def test_a_standby_that_takes_no_writes_is_out_of_reach() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    with pytest.raises(QuotaUnavailable, match="no writes"):
        reserve(1)
    reserve(1)  # by a new connection


def test_the_database_itself_keeps_figures_from_falling_below_0() -> None:
    reserve(1)
    with connection.cursor() as cursor, pytest.raises(Exception, match="violates check constraint"):
        cursor.execute("UPDATE quota_dailyledger SET reserved = reserved - 2")
