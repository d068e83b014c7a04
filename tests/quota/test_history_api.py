"""GET /api/quota/history, /api/quota/forecast and /api/quota/calls."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from quota.api import CallPages
from quota.models import Call, Consumer, ConsumerKey, DailyLedger
from quota.prices import RequestKind
from quota.selectors.history import journal
from quota.services import reservations
from tests.fixtures import NOON, SetClock
from tests.quota.admin.test_calls import LONG_DAYS

HISTORY, FORECAST, CALLS = "/api/quota/history", "/api/quota/forecast", "/api/quota/calls"


def spend(calls: int, *, consumer: str = "reader", operation: str = "shelf") -> None:
    for _ in range(calls):
        reservation = reservations.reserve(consumer=consumer, operation=operation, calls=1)
        reservations.dispatch(reservation, kind=RequestKind.BATCH, method="POST", path="/books")
        reservations.settle(reservation)


def test_history_shows_each_days_limits_and_the_use_of_each_consumer(
    api: APIClient, set_clock: SetClock, settings
) -> None:
    reservations.increment(9, consumer="reader")
    settings.QUOTA_DAILY_LIMIT = 12_000
    set_clock(NOON + timedelta(days=2))
    reservations.increment(3, consumer="reader")
    reservations.increment(5)
    with CaptureQueriesContext(connection) as captured:
        body = api.get(HISTORY, {"days": 400}).json()
    assert not any("quota_call" in query["sql"] for query in captured)
    today, before = body["days"]
    assert today == {
        "day": "2026-05-07",
        "daily_limit": 12_000,
        "safety_limit": 10_000,
        "used": 8,
        "requests": 0,
        "closed": False,
        "consumers": [{"consumer": "reader", "used": 3, "requests": 0}],
    }
    ConsumerKey.objects.update(sees_all=True)
    assert api.get(HISTORY).json()["days"][0]["consumers"] == [
        {"consumer": "external", "used": 5, "requests": 0},
        {"consumer": "reader", "used": 3, "requests": 0},
    ], "a manager's key sees all"
    assert (before["day"], before["daily_limit"], before["used"]) == ("2026-05-05", 15_000, 9)
    assert [day["day"] for day in api.get(HISTORY, {"days": 2}).json()["days"]] == ["2026-05-07"]
    assert [day["day"] for day in api.get(HISTORY).json()["days"]] == ["2026-05-07", "2026-05-05"]


def test_a_year_of_history_takes_as_many_queries_as_a_day(api: APIClient, consumer: Consumer) -> None:
    reservations.increment(1, consumer="reader")
    with CaptureQueriesContext(connection) as one:
        api.get(HISTORY)
    DailyLedger.objects.bulk_create(
        DailyLedger(
            day=NOON.date() - timedelta(days=number),
            daily_limit=15_000,
            safety_buffer=2_000,
            max_rps=3,
            next_dispatch_at=NOON,
            opened_at=NOON,
        )
        for number in range(1, 400)
    )
    with CaptureQueriesContext(connection) as many:
        assert len(api.get(HISTORY, {"days": 400}).json()["days"]) == 400
    assert len(many) == len(one)


def test_a_forecast_says_whether_a_job_can_finish_today_and_if_not_when(api: APIClient, settings) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 120, 20
    reservations.increment(40)
    body = api.get(FORECAST, {"calls": 60}).json()
    assert (body["calls"], body["finishes_today"], body["today"], body["days"]) == (60, True, 60, 1)
    assert body["finish_at"].startswith("2026-05-05T12:")
    body = api.get(FORECAST, {"calls": 161}).json()
    assert (body["finishes_today"], body["today"], body["days"]) == (False, 60, 3)
    assert body["finish_at"].startswith("2026-05-07T00:00:0")
    one = api.get(FORECAST, {"calls": 60, "requests": 1}).json()
    assert timedelta() < datetime.fromisoformat(one["finish_at"]) - NOON < timedelta(seconds=15), "one send time"
    Consumer.objects.filter(slug="reader").update(daily_budget=0)
    assert api.get(FORECAST, {"calls": 1}).json()["finish_at"] is None


def test_calls_that_the_pace_moves_past_midnight_do_not_finish_today(api: APIClient, set_clock: SetClock) -> None:
    set_clock(datetime(2026, 5, 5, 23, 30, tzinfo=UTC))
    assert api.get(FORECAST, {"calls": 1_000}).json()["finishes_today"] is True
    assert api.get(FORECAST, {"calls": 13_000}).json()["finishes_today"] is False


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        (HISTORY, {"days": 0}, "days"),
        (HISTORY, {"days": 401}, "days"),
        (HISTORY, {"days": "x"}, "days"),
        (FORECAST, {}, "calls"),
        (FORECAST, {"calls": 0}, "calls"),
        (FORECAST, {"calls": 1_000_001}, "calls"),
        (CALLS, {"day": "yesterday"}, "day"),
        (CALLS, {"outcome": "fine"}, "outcome"),
        (CALLS, {"operation": "\0"}, "operation"),
        (CALLS, {"page_size": 1001}, "page_size"),
        (CALLS, {"cursor": "nonsense"}, "cursor"),
        (CALLS, {"cursor": "cD1hYmM="}, "cursor"),
    ],
    ids=str,
)
def test_the_error_names_an_invalid_parameter(
    api_without_key_check: APIClient, set_clock: SetClock, path: str, query: dict[str, Any], field: str
) -> None:
    response = api_without_key_check.get(path, query)
    assert (response.status_code, response.headers["Content-Type"]) == (400, "application/problem+json")
    assert [error["field"] for error in response.json()["errors"]] == [field]


def test_a_consumer_pages_through_its_own_calls_of_a_day(api: APIClient, set_clock: SetClock, no_waits: None) -> None:
    Consumer.objects.create(slug="other")
    spend(3)
    spend(2, consumer="other")
    spend(1, operation="pages")
    _, _, call = reservations.reserve_and_dispatch(
        consumer="reader",
        operation="pages",
        calls=1,
        kind=RequestKind.BATCH,
        method="POST",
        path="/books",
    )
    assert isinstance(call, reservations.DispatchedCall)
    reservations.record(call, Call.Outcome.NOT_FOUND, status=404, latency_ms=12)
    newest = Call.objects.get(pk=call.id)

    first = api.get(CALLS, {"page_size": 3}).json()
    second = api.get(first["next"]).json()
    assert (first["previous"], second["next"]) == (None, None)
    ids = [call["id"] for call in first["results"] + second["results"]]
    assert ids == list(Call.objects.filter(consumer__slug="reader").values_list("id", flat=True))
    assert first["results"][0] == {
        "id": newest.id,
        "dispatched_at": newest.dispatched_at.isoformat().replace("+00:00", "Z"),
        "consumer": "reader",
        "operation": "pages",
        "share_of": None,
        "reservation": str(newest.reservation_id),
        "calls": 1,
        "method": "POST",
        "path": "/books",
        "outcome": "not_found",
        "status": 404,
        "latency_ms": 12,
        "isbns_asked": None,
        "isbns_found": None,
    }

    def number(**query: str) -> int:
        return len(api.get(CALLS, query).json()["results"])

    assert (number(operation="pages"), number(outcome="not_found"), number(operation="shelf", outcome="ok")) == (
        2,
        1,
        0,
    )
    assert number(consumer="reader", day="2026-05-05", operation="") == 5
    assert number(day="2026-05-04") == 0
    set_clock(NOON + timedelta(days=1))
    assert (number(), number(day="2026-05-05")) == (0, 5)


@pytest.mark.slow
def test_an_old_day_is_found_without_reading_the_newer_ones(consumer: Consumer) -> None:
    with connection.cursor() as cursor:
        cursor.execute(LONG_DAYS, [consumer.pk])
        cursor.execute("ANALYZE quota_call")
        ordered = journal(day=date(2026, 4, 26)).order_by(*CallPages.ordering)[:101]
        sql, values = ordered.query.sql_with_params()
        cursor.execute(f"EXPLAIN {sql}", values)
        plan = "\n".join(line for [line] in cursor.fetchall())
    assert "quota_call_day_consumer" in plan
    assert "quota_call_pkey" not in plan


def test_only_a_managers_key_sees_the_calls_of_other_consumers(
    api: APIClient, consumer: Consumer, capsys: pytest.CaptureFixture[str]
) -> None:
    Consumer.objects.create(slug="other")
    spend(1)
    spend(2, consumer="other")
    refused = api.get(CALLS, {"consumer": "other"})
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert "manager" in refused.json()["detail"]

    call_command("create_api_key", "boss", "--consumer", "reader", "--sees-all")
    assert ConsumerKey.objects.get(name="boss").sees_all
    manager = APIClient()
    manager.credentials(HTTP_AUTHORIZATION=f"Api-Key {capsys.readouterr().out.strip()}")
    consumers = [call["consumer"] for call in manager.get(CALLS).json()["results"]]
    assert consumers == ["other", "other", "reader"]
    assert len(manager.get(CALLS, {"consumer": "other"}).json()["results"]) == 2
    assert len(api.get(CALLS).json()["results"]) == 1
