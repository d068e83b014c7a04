"""GET /api/quota/status, its headers and its figures."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from quota.api import ratelimit_headers
from quota.models import DailyLedger, PriceMeasurement, Switches
from quota.prices import RequestKind
from quota.selectors.status import QuotaStatus, get_status
from quota.services import reservations
from quota.spending import spending
from tests.fixtures import NOON, SetClock, dispatched

PATH = "/api/quota/status"
MIDNIGHT = datetime(2026, 5, 6, tzinfo=UTC)


def status_of(**changes: Any) -> QuotaStatus:
    status = QuotaStatus(
        day=datetime(2026, 5, 5, tzinfo=UTC).date(),
        daily_limit=15_000,
        safety_limit=13_000,
        used=0,
        reserved=0,
        requests=0,
        max_rps=3,
        pace=timedelta(seconds=0.35),
        midnight_guard=timedelta(seconds=2),
        closed_reason=None,
        enforcement="enforce",
        harvest_enabled=True,
        now=datetime(2026, 5, 5, 12, tzinfo=UTC),
    )
    return replace(status, **changes)


def test_the_status_has_the_figures_of_the_day(api: APIClient) -> None:
    reservations.increment(8_400)
    reservation = reservations.reserve(consumer="reader", operation="test", calls=156)
    reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")
    response = api.get(PATH)
    assert response.status_code == 200
    assert response.json() == {
        "daily_limit": 15000,
        "safety_limit": 13000,
        "used": 8401,
        "reserved": 155,
        "remaining": 4444,
        "reset_at": "2026-05-06T00:00:00Z",
        "percentage_used": 64,
        "enforcement": "enforce",
        "can_make_calls": True,
        "closed_reason": None,
        "paused_until": None,
        "paused_reason": None,
        "requests": 1,
        "isbndb": None,
        "key_price": None,
        "batch_price": "request",
        "batch_price_since": None,
    }


def test_a_request_is_counted_once_and_used_has_its_price(api: APIClient, settings) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    with spending(consumer="reader", operation="test", calls=0) as spender:
        dispatched(spender, RequestKind.BATCH, "POST", "/books", isbns_asked=250)
        dispatched(spender, RequestKind.FEED, "GET", "/feeds/books/updates")
    body = api.get(PATH).json()
    assert (body["used"], body["requests"]) == (250, 2)
    mine = api.get("/api/quota/me").json()
    assert (mine["used"], mine["requests"], mine["quota"]["requests"]) == (250, 2, 2)
    [day] = api.get("/api/quota/history").json()["days"]
    assert (day["used"], day["requests"]) == (250, 2)
    assert day["consumers"] == [{"consumer": "reader", "used": 250, "requests": 2}]
    assert [call["calls"] for call in api.get("/api/quota/calls").json()["results"]] == [0, 250]


def test_a_consumer_that_sent_only_free_requests_is_in_the_history(api: APIClient) -> None:
    with spending(consumer="reader", operation="test", calls=0) as spender:
        dispatched(spender, RequestKind.FEED, "GET", "/feeds/books/updates")
    [day] = api.get("/api/quota/history").json()["days"]
    assert day["consumers"] == [{"consumer": "reader", "used": 0, "requests": 1}]


def test_the_status_tells_the_price_of_a_batch_and_since_when(api: APIClient, settings) -> None:
    def price() -> tuple[str, str | None]:
        body = api.get(PATH).json()
        return body["batch_price"], body["batch_price_since"]

    settings.ISBNDB_BATCH_PRICE = "measure"
    assert price() == ("unknown", None)
    reservations.open_ledger()
    PriceMeasurement.objects.create(
        ledger=DailyLedger.objects.get(), measured_at=NOON, how="probe", batch_price="isbn", key_price=1
    )
    assert price() == ("isbn", "2026-05-05T12:00:00Z")
    Switches.objects.create(batch_price="request")
    chosen, since = price()
    assert (chosen, since is not None) == ("request", True)
    settings.ISBNDB_BATCH_PRICE = "isbn"
    Switches.objects.update(batch_price="")
    assert price() == ("isbn", None)


def test_the_example_of_the_design_gives_the_figures_of_the_design() -> None:
    status = status_of(used=8_456, now=MIDNIGHT - timedelta(seconds=36_000))
    assert (status.remaining, status.percentage_used) == (4_544, 65)
    assert ratelimit_headers(status) == {
        "RateLimit-Policy": '"daily";q=13000;w=86400, "pace";q=3;w=1',
        "RateLimit": '"daily";r=4544;t=36000',
    }


def test_the_headers_come_with_the_answer(api: APIClient, set_clock: SetClock) -> None:
    set_clock(MIDNIGHT - timedelta(hours=1))
    headers = api.get(PATH).headers
    assert headers["RateLimit-Policy"] == '"daily";q=13000;w=86400, "pace";q=3;w=1'
    name, remaining, seconds = headers["RateLimit"].split(";")
    assert (name, remaining) == ('"daily"', "r=13000")
    assert 3_000 < int(seconds.removeprefix("t=")) <= 3_600


def test_on_a_closed_day_nothing_is_left() -> None:
    status = status_of(used=100, closed_reason="Daily quota exceeded")
    assert (status.remaining, status.can_make_calls) == (0, False)
    assert ratelimit_headers(status)["RateLimit"] == '"daily";r=0;t=43200'


LIMITS = st.tuples(st.integers(1, 10_000_000), st.integers(0, 9_999_999)).filter(lambda pair: pair[0] > pair[1])


@given(limits=LIMITS, used=st.integers(0, 20_000_000), reserved=st.integers(0, 20_000_000), closed=st.booleans())
def test_the_figures_agree_with_each_other(limits: tuple[int, int], used: int, reserved: int, closed: bool) -> None:
    daily, buffer = limits
    status = status_of(
        daily_limit=daily,
        safety_limit=daily - buffer,
        used=used,
        reserved=reserved,
        closed_reason="Daily quota exceeded" if closed else None,
    )
    assert status.remaining == (0 if closed else max(0, status.safety_limit - used - reserved))
    assert (status.percentage_used >= 100) == (used >= status.safety_limit)
    assert (
        status.percentage_used * status.safety_limit <= 100 * used < (status.percentage_used + 1) * status.safety_limit
    )
    assert status.can_make_calls == (status.remaining > 0 and not closed)


@given(moment=st.timedeltas(timedelta(), timedelta(days=1) - timedelta(microseconds=1)))
def test_the_seconds_to_the_reset_are_neither_too_few_nor_a_second_too_many(moment: timedelta) -> None:
    status = status_of(now=MIDNIGHT - timedelta(days=1) + moment)
    wait = timedelta(seconds=status.seconds_to_reset)
    assert timedelta() <= status.now + wait - MIDNIGHT < timedelta(seconds=1)
    assert status.reset_at == MIDNIGHT


def test_a_change_of_the_settings_does_not_change_todays_limits(api: APIClient, settings) -> None:
    reservations.open_ledger()
    settings.QUOTA_DAILY_LIMIT = settings.QUOTA_DAILY_LIMIT * 2
    assert api.get(PATH).json()["daily_limit"] == 15_000


def test_a_new_day_starts_with_nothing_used(api: APIClient, set_clock: SetClock) -> None:
    reservations.increment(13_000)
    assert api.get(PATH).json()["can_make_calls"] is False
    set_clock(MIDNIGHT)
    body = api.get(PATH).json()
    assert (body["used"], body["remaining"], body["percentage_used"], body["can_make_calls"]) == (0, 13_000, 0, True)
    assert body["reset_at"] == "2026-05-07T00:00:00Z"


def test_a_use_above_the_limit_is_shown_and_nothing_remains(api: APIClient) -> None:
    reservations.increment(14_000)
    body = api.get(PATH).json()
    assert (body["used"], body["remaining"], body["percentage_used"]) == (14_000, 0, 107)


def test_a_closed_day_is_shown_with_the_answer_of_isbndb(api: APIClient) -> None:
    call = reservations.dispatch(
        reservations.reserve(consumer="reader", operation="test", calls=1),
        kind=RequestKind.PAGE,
        method="GET",
        path="/author/x",
    )
    assert isinstance(call, reservations.DispatchedCall)
    reservations.close_day(call, reason="Daily quota exceeded")
    answer = api.get(PATH)
    body = answer.json()
    assert (body["can_make_calls"], body["closed_reason"]) == (False, "Daily quota exceeded")
    assert '"daily";r=0;' in answer.headers["RateLimit"]


def test_the_status_shows_that_limits_are_observed(api: APIClient, settings) -> None:
    settings.QUOTA_ENFORCEMENT = "observe"
    reservations.increment(13_000)
    body = api.get(PATH).json()
    assert (body["enforcement"], body["remaining"], body["can_make_calls"]) == ("observe", 0, True)


def test_reading_the_status_changes_nothing(api: APIClient) -> None:
    before = get_status()
    api.get(PATH)
    after = get_status()
    assert (after.used, after.reserved) == (before.used, before.reserved) == (0, 0)


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_the_status_can_only_be_read(api: APIClient, method: str) -> None:
    response = getattr(api, method)(PATH)
    assert response.status_code == 405
    assert json.loads(response.content)["status"] == 405
