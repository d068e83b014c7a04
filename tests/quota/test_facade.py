"""The four operations of a quota manager."""

import pytest

from quota import facade
from quota.models import Consumer, DailyLedger
from quota.services import reservations


@pytest.fixture(autouse=True)
def small_day(settings, consumer: Consumer) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 120, 20


def test_check_quota_says_whether_calls_are_free_and_reserves_none() -> None:
    assert facade.check_quota(100)
    assert not facade.check_quota(101)
    reservations.reserve(consumer="reader", operation="test", calls=60)
    assert (facade.check_quota(40), facade.check_quota(41)) == (True, False)


def test_check_quota_is_always_true_while_observing(settings) -> None:
    settings.QUOTA_ENFORCEMENT = "observe"
    assert facade.check_quota(1_000_000)


def test_increment_usage_records_calls_past_the_limit() -> None:
    facade.increment_usage(130)
    assert facade.get_status().used == 130
    assert not facade.check_quota(1)


def test_reset_if_needed_opens_todays_ledger_and_resets_nothing() -> None:
    assert facade.reset_if_needed() is True
    facade.increment_usage(5)
    assert facade.reset_if_needed() is False
    assert DailyLedger.objects.get().used == 5


def test_the_status_of_a_day_without_a_ledger_shows_the_limits_of_the_settings_and_writes_nothing() -> None:
    status = facade.get_status()
    assert (status.daily_limit, status.safety_limit, status.used, status.remaining) == (120, 100, 0, 100)
    assert not DailyLedger.objects.exists()
