"""Refusals on record: the limit, the figures of that moment and the reserved calls. No record is needed to refuse."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from alexandria.development.sandbox.server import Sandbox
from quota.exceptions import QuotaRefused
from quota.models import Consumer, Refusal
from quota.prices import RequestKind
from quota.services import reservations
from tests.fixtures import NOON, At, known_isbns


@pytest.fixture(autouse=True)
def holder(settings, consumer: Consumer) -> Consumer:
    """A consumer that has reserved 60 of the day's 100 calls."""
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 120, 20
    holder = Consumer.objects.create(slug="holder")
    reservations.reserve(consumer="holder", operation="shelf", calls=60)
    return holder


def refused(calls: int = 1, operation: str = "test", **options: Any) -> QuotaRefused:
    with pytest.raises(QuotaRefused) as caught:
        reservations.reserve(consumer="reader", operation=operation, calls=calls, **options)
    return caught.value


def test_a_refusal_is_recorded_with_its_limit_the_figures_and_the_reserved_calls() -> None:
    reservations.increment(5, consumer="reader")
    Consumer.objects.filter(slug="reader").update(floor=30, daily_budget=90)
    error = refused(calls=6, operation="batch", source="shelf 7")
    row = Refusal.objects.select_related("consumer").get()
    assert row.id == error.refusal_id
    assert (row.consumer.slug, row.operation, row.source) == ("reader", "batch", "shelf 7")
    assert (row.limit, row.asked, row.free, row.retry_at) == ("floor", 6, 5, error.retry_at)
    assert row.ledger_id == NOON.date()
    assert row.at == row.last_at
    assert timedelta() <= row.at - NOON < timedelta(minutes=5)
    assert row.figures == {
        "daily_limit": 120,
        "safety_limit": 100,
        "used": 5,
        "reserved": 60,
        "floor": 30,
        "daily_budget": 90,
        "cap_per_operation": None,
        "consumer_used": 5,
        "consumer_reserved": 0,
        "held_by": {"holder": 60},
    }


def test_a_refusal_of_a_reservation_is_recorded_for_its_consumer() -> None:
    reservation, _, call = reservations.reserve_and_dispatch(
        consumer="reader", operation="pages", source="x", calls=2, kind=RequestKind.PAGE, method="GET", path="/books"
    )
    assert isinstance(call, reservations.DispatchedCall)
    with pytest.raises(QuotaRefused) as extended:
        reservations.extend(reservation, calls=50)
    reservations.close_day(call, reason="Daily quota exceeded")
    with pytest.raises(QuotaRefused) as dispatched:
        reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")
    asked = ("consumer__slug", "operation", "source", "limit", "asked")
    rows = {row.pop("id"): tuple(row.values()) for row in Refusal.objects.values("id", *asked)}
    assert rows == {
        extended.value.refusal_id: ("reader", "pages", "x", "safety_limit", 50),
        dispatched.value.refusal_id: ("reader", "pages", "x", "day_closed", 1),
    }


def test_a_client_that_retries_in_a_loop_fills_one_row_in_ten_seconds(at: At) -> None:
    ids = set()
    for number in range(5):
        at(number)
        ids.add(refused(calls=41 + number).refusal_id)
    assert len(ids) == 1
    row = Refusal.objects.get()
    assert (row.times, row.asked) == (5, 41)
    assert row.last_at > row.at
    refused(calls=41, operation="other")
    at(20)
    assert refused(calls=41).refusal_id not in ids
    assert Refusal.objects.count() == 3


def test_a_refusal_that_cannot_be_recorded_still_refuses(caplog: pytest.LogCaptureFixture) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE quota_refusal RENAME TO quota_refusal_gone")
    try:
        error = refused(calls=41)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE quota_refusal_gone RENAME TO quota_refusal")
    assert (error.limit, error.free, error.refusal_id) == ("safety_limit", 40, None)
    assert "quota.refusal_not_recorded" in caplog.text
    assert "quota.refused" in caplog.text


def test_a_call_that_is_granted_while_observing_leaves_no_refusal(settings) -> None:
    settings.QUOTA_ENFORCEMENT = "observe"
    reservations.reserve(consumer="reader", operation="test", calls=41)
    assert not Refusal.objects.exists()


@pytest.mark.slow
def test_the_429_and_the_log_name_the_refusal_whose_page_says_why(
    api: APIClient, admin_client: Client, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    Consumer.objects.filter(slug="reader").update(daily_budget=0)
    response = api.post("/api/enrich/batch-direct", known_isbns(1), format="json")
    assert response.status_code == 429
    row = Refusal.objects.get()
    assert response.json()["refusal"] == str(row.id)
    assert str(row.id) in caplog.text
    page = admin_client.get(f"/admin/why/{row.pk}", follow=True)
    assert "Why was this refused?" in page.text
    assert "requested 1 call for batch-direct at " in page.text
    assert "0 calls were free. This consumer&#x27;s daily budget is" in page.text
    assert [(slug, calls) for slug, calls, _ in page.context["held_by"]] == [("holder", 60)]
    assert "Raise the consumer&#x27;s daily budget" in page.text
    looked_for = admin_client.get(reverse("admin:quota_refusal_changelist"), {"q": f" {row.id} "}, follow=True)
    assert looked_for.context["refusal"] == row
    assert admin_client.get(reverse("admin:quota_refusal_add")).status_code == 403
    assert admin_client.post(reverse("admin:quota_refusal_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("wanted", ["00000000-0000-4000-8000-000000000000", "no-id", "<b>"])
def test_the_page_of_an_unknown_id_says_how_long_refusals_are_kept(wanted: str, admin_client: Client) -> None:
    page = admin_client.get(reverse("why", args=[wanted]))
    assert page.status_code == 404
    assert "kept for 400 days" in page.text
    assert "<b>”" not in page.text


def test_the_why_page_needs_the_permission_to_view_refusals(client: Client, django_user_model) -> None:
    page = reverse("why", args=["00000000-0000-4000-8000-000000000000"])
    assert client.get(page).status_code == 302
    client.force_login(django_user_model.objects.create_user("newcomer", is_staff=True))
    assert client.get(page).status_code == 403
