"""Exports of lists: complete, with the filters of the list, and streamed."""

import csv
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from alexandria.common.exports import BATCH, FOR_EXCEL
from quota.models import Call, Consumer
from quota.selectors.exports import CALL_COLUMNS, USAGE_COLUMNS
from tests.fixtures import NOON

CALLS = "/admin/quota/call/"
LEDGERS = "/admin/quota/dailyledger/"
TODAY = "2026-05-05"

MANY = """
    INSERT INTO quota_call (day, consumer_id, operation, calls, dispatched_at, send_at, method, path, outcome, error)
    SELECT '2026-05-05', %s, 'many', 1, moment, moment, 'GET', '/x', 'external', ''
    FROM (SELECT timestamptz '2026-05-05 13:00+00' + number / 10 * interval '1 second' AS moment
          FROM generate_series(1, 10500) AS number) AS moments"""


def lines(client: Client, page: str, wanted: str, **filters: str) -> list[dict[str, str]]:
    response: Any = client.get(f"{page}export-{wanted}/", filters)
    assert response.status_code == 200
    assert response.streaming
    text = b"".join(response.streaming_content).decode("utf-8-sig")
    return json.loads(text) if wanted == "json" else list(csv.DictReader(text.splitlines()))


@pytest.mark.slow
def test_the_journal_is_streamed_in_batches(pages: Client, consumer: Consumer) -> None:
    with connection.cursor() as cursor:
        cursor.execute(MANY, [consumer.pk])
    for filters in ({}, {"day": TODAY}):
        with CaptureQueriesContext(connection) as queries:
            response: Any = pages.get(f"{CALLS}export-csv/", filters)
            stream: Iterator[bytes] = iter(response.streaming_content)
            assert next(stream).decode() == FOR_EXCEL
            assert next(stream).decode() == ",".join(CALL_COLUMNS) + "\r\n"
            begun = len(queries)
            ids = [int(line.split(b",", 1)[0]) for line in stream]
        assert begun < 20
        assert len(queries) == begun + 10_500 // BATCH + 1
        assert ids == sorted(Call.objects.values_list("pk", flat=True), reverse=True)
        assert response["Content-Disposition"] == f'attachment; filename="calls-{TODAY}.csv"'


@pytest.mark.parametrize("wanted", ["csv", "json"])
def test_an_export_has_the_rows_of_the_filtered_list(wanted: str, pages: Client, consumer: Consumer) -> None:
    [call] = lines(pages, CALLS, wanted, consumer__id__exact=str(consumer.pk), day=TODAY)
    assert (call["operation"], call["path"], call["outcome"]) == ("shelf", "/books", "unknown")
    row = Call.objects.get(consumer=consumer)
    assert call["dispatched_at"] == f"{row.dispatched_at:%Y-%m-%dT%H:%M:%S.%fZ}"
    assert call["reservation"] == str(row.reservation_id)
    assert lines(pages, CALLS, wanted, day="2026-05-04") == []
    assert lines(pages, CALLS, wanted, day='no day"\r\n') == []
    misspelt: Any = pages.get(f"{CALLS}export-{wanted}/", {"consumr": "reader"}, follow=True)
    assert (misspelt.request["PATH_INFO"], misspelt.request["QUERY_STRING"]) == (CALLS, "e=1")
    usages = lines(pages, LEDGERS, wanted, day__year="2026", day__month="5")
    assert [(usage["consumer"], str(usage["used"]), str(usage["reserved"])) for usage in usages] == [
        ("external", "2", "0"),
        ("reader", "1", "2"),
    ]
    assert (usages[0]["day"], str(usages[0]["day_used"])) == (TODAY, "3")
    assert list(usages[0]) == list(USAGE_COLUMNS)
    assert lines(pages, LEDGERS, wanted, day__year="2025") == []


def test_no_cell_is_a_formula_and_negative_numbers_stay_numbers(pages: Client, consumer: Consumer) -> None:
    Call.objects.create(
        ledger_id=NOON.date(),
        consumer=consumer,
        operation="=HYPERLINK()",
        calls=-1,
        dispatched_at=NOON,
        send_at=NOON,
        outcome="adjusted",
        error='@é, "quoted"\nand more',
    )
    page: Any = pages.get(f"{CALLS}export-csv/", {"outcome__exact": "adjusted"})
    text = b"".join(page.streaming_content).decode()
    assert "'=HYPERLINK()" in text
    assert ",-1," in text
    assert '"\'@é, ""quoted""\nand more"' in text
    [call] = lines(pages, CALLS, "json", outcome__exact="adjusted")
    assert call["operation"] == "=HYPERLINK()"


def test_the_export_buttons_keep_the_filters(pages: Client) -> None:
    page = pages.get(reverse("admin:quota_call_changelist"), {"day": TODAY}).text
    assert f"/admin/quota/call/export-csv/?day={TODAY}" in page
    assert f"/admin/quota/call/export-json/?day={TODAY}" in page
