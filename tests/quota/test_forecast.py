"""selectors.forecast: whether a number of calls can be made today, and if not, when."""

from datetime import UTC, datetime, timedelta

import pytest

from quota.exceptions import ConsumerUnknown, QuotaError
from quota.models import Consumer, DailyLedger, Switches
from quota.prices import RequestKind
from quota.selectors.allowances import why_no_call
from quota.selectors.forecast import forecast
from quota.selectors.status import get_status
from quota.services import reservations
from tests.fixtures import NOON, At, SetClock

MIDNIGHT = datetime(2026, 5, 6, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def day_of_100(settings, consumer: Consumer) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER, settings.QUOTA_MAX_RPS = 120, 20, 3


def test_calls_that_fit_today_end_by_the_pace(at: At) -> None:
    plan = forecast(100, consumer="reader")
    assert (plan.today, plan.days) == (100, 1)
    assert plan.finish_at is not None
    assert abs(plan.finish_at - (NOON + timedelta(seconds=35))) < 10 * SECOND


def test_calls_that_do_not_fit_today_continue_on_the_next_days() -> None:
    reservations.increment(40)
    plan = forecast(260, consumer="reader")
    assert (plan.today, plan.days) == (60, 3)
    assert plan.finish_at is not None
    assert plan.finish_at - (MIDNIGHT + timedelta(days=1)) == timedelta(seconds=2 + 35)
    assert forecast(261, consumer="reader").days == 4


def test_the_quota_counts_the_calls_and_the_pace_the_requests(at: At) -> None:
    at(0)
    step = get_status().pace
    assert forecast(100, consumer="reader", requests=2).finish_at == NOON + 2 * step
    plan = forecast(250, consumer="reader", requests=5)
    assert (plan.today, plan.days) == (100, 3)
    assert plan.finish_at == MIDNIGHT + timedelta(days=1) + 2 * SECOND + step, (
        "50 of the 250 calls: 1 of the 5 requests"
    )
    free = forecast(0, consumer="reader", requests=4)
    assert (free.today, free.days, free.finish_at) == (0, 1, NOON + 4 * step)


def test_today_and_tomorrow_are_told_apart_also_where_the_pace_passes_midnight(at: At) -> None:
    assert (forecast(1, consumer="reader").days, forecast(1, consumer="reader").finishes_today) == (1, True)
    reservations.increment(100)
    assert (forecast(1, consumer="reader").days, forecast(1, consumer="reader").finishes_today) == (2, False)
    at(12 * 3600 - 20)
    late = forecast(0, consumer="reader", requests=100)
    assert (late.days, late.finishes_today) == (2, False), "100 requests need 35 seconds"


def test_a_floor_and_a_budget_make_it_take_longer() -> None:
    Consumer.objects.create(slug="slow", floor=50, daily_budget=25)
    reservations.increment(60)
    plan = forecast(35, consumer="slow")
    assert (plan.today, plan.days) == (0, 3), "25 tomorrow, the rest on the day after"
    reservations.increment(3, consumer="slow")
    assert forecast(25, consumer="slow").today == 0


def test_a_consumer_that_gets_no_calls_never_finishes() -> None:
    Consumer.objects.create(slug="broke", daily_budget=0)
    assert forecast(1, consumer="broke").finish_at is None


def test_a_closed_day_gives_no_call_and_no_calls_take_no_time(set_clock: SetClock) -> None:
    _, _, call = reservations.reserve_and_dispatch(
        consumer="reader", operation="x", calls=1, kind=RequestKind.PAGE, method="GET", path="/author/x"
    )
    assert isinstance(call, reservations.DispatchedCall)
    reservations.close_day(call, reason="Daily quota exceeded")
    tomorrow = forecast(1, consumer="reader")
    assert (tomorrow.today, tomorrow.days) == (0, 2)
    assert forecast(0, consumer="reader").days == 1


def refused(consumer: str) -> bool:
    try:
        reservations.settle(reservations.reserve(consumer=consumer, operation="x", calls=1))
    except QuotaError:
        return True
    return False


@pytest.mark.parametrize("enforcement", ["enforce", "observe"])
def test_the_forecast_and_the_reason_agree_with_the_refusal(settings, set_clock: SetClock, enforcement: str) -> None:
    settings.QUOTA_ENFORCEMENT = enforcement
    Consumer.objects.create(slug="off", active=False)
    Consumer.objects.create(slug="cron", kind="cron")
    Consumer.objects.create(slug="polite", floor=100)
    Consumer.objects.create(slug="broke", daily_budget=0)
    Switches.objects.create(harvest_enabled=False)
    reservations.open_ledger()

    def predicted(consumer: str) -> tuple[bool, bool]:
        """Whether a call is refused according to the forecast, and according to `why_no_call`."""
        return forecast(1, consumer=consumer).today == 0, why_no_call(consumer, get_status()) != ""

    def check(**expected: bool) -> None:
        for consumer, is_refused in expected.items():
            assert (refused(consumer), *predicted(consumer)) == (is_refused,) * 3, consumer

    limits = enforcement == "enforce"
    check(reader=False, off=True, cron=True, polite=limits, broke=limits)
    assert [forecast(1, consumer=slug).finish_at for slug in ("off", "cron")] == [None, None]
    DailyLedger.objects.update(closed_at=NOON, closed_reason="Daily quota exceeded")
    check(reader=limits, off=True)
    DailyLedger.objects.update(closed_at=None, closed_reason="")
    reservations.increment(100)
    check(reader=limits)
    set_clock(MIDNIGHT + timedelta(days=1) - SECOND)
    reservations.open_ledger()
    check(reader=limits)


def test_an_unknown_consumer_has_no_forecast() -> None:
    with pytest.raises(ConsumerUnknown):
        forecast(1, consumer="nobody")
