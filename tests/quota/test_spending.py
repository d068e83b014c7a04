"""quota.spending: however the block ends, no call stays reserved."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from quota.exceptions import QuotaRefused, QuotaUnavailable, ReservationClosed
from quota.models import Call, Consumer, DailyLedger, Reservation
from quota.prices import RequestKind
from quota.selectors.status import check_ledger, get_status
from quota.services import reservations
from quota.spending import in_background, spending
from tests.fixtures import SetClock, dispatched

MIDNIGHT = datetime(2026, 5, 6, tzinfo=UTC)


@pytest.fixture(autouse=True)
def quick_pace(settings, consumer: Consumer) -> None:
    settings.QUOTA_MAX_RPS = 1000


def spend(calls: int, **options):
    return spending(consumer="reader", operation="test", calls=calls, **options)


def test_an_operation_reserves_all_its_calls_with_the_first_dispatch() -> None:
    with spend(5) as spender:
        assert not Reservation.objects.exists()
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
        assert (get_status().used, get_status().reserved) == (1, 4)
    assert (get_status().used, get_status().reserved) == (1, 0)


def test_an_operation_that_dispatches_nothing_leaves_no_trace() -> None:
    with spend(5):
        pass
    assert not Reservation.objects.exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_however_the_block_ends_the_rest_goes_back(error: type[BaseException]) -> None:
    with pytest.raises(error), spend(5) as spender:
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
        raise error
    assert (get_status().used, get_status().reserved) == (1, 0)
    assert check_ledger(get_status().day) == []


def test_an_operation_that_cannot_be_covered_spends_nothing(settings) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 10, 2
    with pytest.raises(QuotaRefused), spend(9) as spender:
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
    assert (get_status().used, get_status().reserved, Call.objects.count()) == (0, 0, 0)


@pytest.mark.parametrize("urgent", [True, False], ids=["urgent", "background"])
def test_a_dispatch_says_whether_somebody_waits_for_the_answer(urgent: bool) -> None:
    with nullcontext() if urgent else in_background(), spend(1) as spender:
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
    assert (DailyLedger.objects.get().background_slot_at is None) is urgent
    with spend(1) as spender:  # the end of in_background() is the end of the background
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
    assert not DailyLedger.objects.filter(background_slot_at=Call.objects.latest("id").send_at).exists()


def test_extending_reserves_one_more_call_for_a_retry() -> None:
    with spend(1) as spender:
        with pytest.raises(RuntimeError, match="nothing to extend"):
            spender.extend(1)
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
        spender.extend(1)
        assert spender.left == 1
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
    assert get_status().used == 2


def test_what_is_released_is_not_held_any_more() -> None:
    with spend(5) as spender:
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
        spender.release_beyond(3)
        assert (spender.left, get_status().reserved) == (3, 3)
        spender.release_beyond(4)
        assert (spender.left, get_status().reserved) == (3, 3)


def test_an_operation_stops_at_midnight(set_clock: SetClock) -> None:
    with pytest.raises(ReservationClosed), spend(3) as spender:
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
        set_clock(MIDNIGHT + timedelta(minutes=1))
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
    assert list(DailyLedger.objects.values_list("used", "reserved")) == [(1, 0)]


def test_while_observing_an_operation_goes_on_past_midnight(settings, set_clock: SetClock) -> None:
    settings.QUOTA_ENFORCEMENT = "observe"
    with spend(3) as spender:
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
        set_clock(MIDNIGHT + timedelta(minutes=1))
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
    reservations.expire()
    assert list(DailyLedger.objects.order_by("day").values_list("used", "reserved")) == [(1, 0), (1, 0)]


def test_a_database_failure_does_not_hide_how_the_block_ended(monkeypatch, caplog) -> None:
    def out_of_reach(reservation: object) -> int:
        raise QuotaUnavailable

    with pytest.raises(ValueError, match="mine"), spend(2) as spender:
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
        monkeypatch.setattr(reservations, "settle", out_of_reach)
        raise ValueError("mine")
    assert "quota.settle_failed" in caplog.text


def test_spending_inside_a_transaction_is_an_error_and_spends_nothing() -> None:
    with pytest.raises(transaction.TransactionManagementError), transaction.atomic(), spend(1) as spender:
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
    assert not Call.objects.exists()
