"""GET /api/quota/me: what one consumer can spend, what it spent, and its refusals."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from quota.exceptions import HarvestSwitchedOff, QuotaRefused
from quota.models import Consumer, DailyLedger, Switches
from quota.prices import RequestKind
from quota.selectors.allowances import get_allowance
from quota.services import reservations
from tests.fixtures import SetClock, stop_database_clock

PATH = "/api/quota/me"
MIDNIGHT = datetime(2026, 5, 6, tzinfo=UTC)


@pytest.fixture(autouse=True)
def day_of_100(settings, consumer: Consumer) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 120, 20


def test_a_consumer_sees_its_limits_its_use_and_its_last_refusals(api: APIClient) -> None:
    Consumer.objects.filter(slug="reader").update(floor=10, daily_budget=50, cap_per_operation=30)
    Consumer.objects.create(slug="other", daily_budget=0)
    reservations.increment(20)
    reservations.increment(5, consumer="reader")
    reservations.reserve(consumer="reader", operation="test", calls=7)
    with pytest.raises(QuotaRefused) as caught:
        reservations.reserve(consumer="reader", operation="big", calls=31, source="shelf")
    with pytest.raises(QuotaRefused):
        reservations.reserve(consumer="other", operation="test", calls=1)
    response = api.get(PATH)
    assert response.status_code == 200
    assert response.headers["RateLimit"].startswith('"daily";r=68;')
    body = response.json()
    [refusal] = body.pop("refusals")
    quota = body.pop("quota")
    assert [limit["limit"] for limit in body.pop("limits")] == [
        "MAX_JOBS_PER_CONSUMER",
        "MAX_JOB_ITEMS_PER_CONSUMER",
        "MAX_QUEUED_PER_CONSUMER",
    ]
    assert body == {
        "consumer": {"slug": "reader", "kind": "api", "active": True},
        "floor": 10,
        "daily_budget": 50,
        "cap_per_operation": 30,
        "used": 5,
        "reserved": 7,
        "requests": 0,
        "free": 30,
        "limited_by": "cap_per_operation",
    }
    assert (refusal["id"], refusal["times"]) == (str(caught.value.refusal_id), 1)
    assert (refusal["operation"], refusal["source"], refusal["limit"]) == ("big", "shelf", "cap_per_operation")
    assert (refusal["asked"], refusal["free"], refusal["retry_at"]) == (31, 30, None)
    assert (quota["used"], quota["reserved"], quota["remaining"]) == (25, 7, 68)


@pytest.mark.parametrize(
    ("limits", "free", "limited_by"),
    [
        ({}, 60, "safety_limit"),
        ({"floor": 25}, 35, "floor"),
        ({"floor": 61}, 0, "floor"),
        ({"daily_budget": 60}, 60, "daily_budget"),
        ({"daily_budget": 12, "floor": 48}, 12, "daily_budget"),
        ({"daily_budget": 0}, 0, "daily_budget"),
        ({"cap_per_operation": 3, "floor": 57}, 3, "cap_per_operation"),
        ({"cap_per_operation": 9, "daily_budget": 8}, 8, "daily_budget"),
    ],
    ids=str,
)
def test_the_free_calls_are_granted_and_one_more_is_refused_by_the_limit_shown(
    consumer: Consumer, limits: dict[str, Any], free: int, limited_by: str
) -> None:
    for limit, calls in limits.items():
        setattr(consumer, limit, calls)
    consumer.save()
    reservations.increment(40)
    allowance = get_allowance(consumer)
    assert (allowance.free, allowance.limited_by) == (free, limited_by)
    with pytest.raises(QuotaRefused) as caught:
        reservations.reserve(consumer="reader", operation="test", calls=free + 1)
    assert (caught.value.limit, caught.value.free) == (limited_by, free)
    if free:
        reservations.reserve(consumer="reader", operation="test", calls=free)


def test_no_call_is_free_on_a_closed_day_near_midnight_or_while_harvesting_is_off(
    consumer: Consumer, set_clock: SetClock
) -> None:
    Switches.objects.create(harvest_enabled=False)
    cron = Consumer.objects.create(slug="cron", kind="cron")
    assert (get_allowance(cron).free, get_allowance(cron).limited_by) == (0, "harvest_off")
    with pytest.raises(HarvestSwitchedOff):
        reservations.reserve(consumer="cron", operation="test", calls=1)
    inactive = Consumer.objects.create(slug="inactive-cron", kind="cron", active=False)
    assert (get_allowance(inactive).free, get_allowance(inactive).limited_by) == (0, "harvest_off")
    assert get_allowance(consumer).free == 100
    _, _, call = reservations.reserve_and_dispatch(
        consumer="reader", operation="x", calls=1, kind=RequestKind.PAGE, method="GET", path="/author/x"
    )
    assert isinstance(call, reservations.DispatchedCall)
    reservations.close_day(call, reason="Daily quota exceeded")
    assert (get_allowance(consumer).free, get_allowance(consumer).limited_by) == (0, "day_closed")
    stop_database_clock(MIDNIGHT - timedelta(seconds=1.9))
    assert (get_allowance(consumer).free, get_allowance(consumer).limited_by) == (0, "day_closed")
    DailyLedger.objects.update(closed_at=None, closed_reason="")
    assert (get_allowance(consumer).free, get_allowance(consumer).limited_by) == (0, "midnight")
