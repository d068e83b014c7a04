"""The journal in the admin. No filter reads the whole journal."""

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from quota.models import Call, Consumer

PAGE = "/admin/quota/call/"
TODAY = "2026-05-05"

# Ten days of 2,000 calls each, a few of them failed. By the id, PostgreSQL would walk from the newest to the oldest.
LONG_DAYS = """
    INSERT INTO quota_call (
        day, consumer_id, operation, calls, dispatched_at, send_at, method, path, outcome, status, error, reservation_id
    )
    SELECT day, %s, 'old', 1, day, day, 'POST', '/books', CASE WHEN number < 9 THEN 'timeout' ELSE 'ok' END,
        CASE WHEN number > 8 THEN 200 END, '', gen_random_uuid()
    FROM generate_series(date '2026-04-26', date '2026-05-05', '1 day') AS day, generate_series(1, 2000) AS number"""


def listed(client: Client, **filters: str) -> list[Call]:
    return list(client.get(PAGE, filters).context["cl"].result_list)


def plans(client: Client, **filters: str) -> str:
    """The plans of the queries with which the page reads the journal."""
    with CaptureQueriesContext(connection) as asked:
        assert client.get(PAGE, filters).status_code == 200
    found = ""
    with connection.cursor() as cursor:
        for query in asked:
            if re.search(r'FROM "quota_call"', query["sql"]):
                cursor.execute(f"EXPLAIN {query['sql']}")
                found += "\n".join(line for [line] in cursor.fetchall())
    assert found
    return found


@pytest.mark.slow
def test_each_filter_finds_its_calls(pages: Client, consumer: Consumer) -> None:
    shelf, external = Call.objects.order_by("pk")
    Call.objects.filter(pk=shelf.pk).update(outcome=Call.Outcome.SERVER_ERROR, status=500)
    found: dict[tuple[str, str], Any] = {
        ("day", TODAY): [external, shelf],
        ("day", "2026-05-04"): [],
        ("day", "yesterday"): [],
        ("status", "500"): [shelf],
        ("status", "200"): [],
        ("status", "none"): [external],
        ("operation", "shelf"): [shelf],
        ("operation", "she"): [],
        ("outcome__exact", "external"): [external],
        ("consumer__id__exact", str(consumer.pk)): [shelf],
        ("q", str(shelf.reservation_id)): [shelf],
    }
    for (name, value), calls in found.items():
        assert listed(pages, **{name: value}) == calls, (name, value)
    assert listed(pages, operation="shelf", day="2026-05-04") == []


@pytest.mark.slow
def test_no_filter_reads_the_whole_journal(admin_client: Client, consumer: Consumer) -> None:
    with connection.cursor() as cursor:
        cursor.execute(LONG_DAYS, [consumer.pk])
        cursor.execute("ANALYZE quota_call")
    latest = plans(admin_client)
    assert "quota_call_pkey" in latest
    assert "Seq Scan on quota_call" not in latest
    filtered: list[tuple[dict[str, str], str]] = [
        ({"day": "2026-04-26"}, "quota_call_day_consumer"),
        ({"day": "2026-04-26", "status": "503"}, "quota_call_"),
        ({"status": "503"}, "quota_call_outcome_latest"),
        ({"status": "none"}, "quota_call_outcome_latest"),
        ({"operation": "new"}, "quota_call_day_consumer"),
        ({"outcome__exact": "too_fast"}, "quota_call_outcome_latest"),
    ]
    for filters, index in filtered:
        plan = plans(admin_client, **filters)
        assert index in plan, (filters, plan)
        assert "quota_call_pkey" not in plan, (filters, plan)
        assert "Seq Scan on quota_call" not in plan, (filters, plan)
    assert "Show counts" not in admin_client.get(PAGE).text
