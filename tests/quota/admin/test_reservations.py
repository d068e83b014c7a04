"""Reservations in the admin: the order of the list, and the release of a stuck one, with a reason."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client

from quota.exceptions import ReservationClosed
from quota.models import Consumer, Reservation
from quota.prices import RequestKind
from quota.selectors.status import check_ledger, get_status
from quota.services import reservations
from tests.fixtures import NOON, SetClock

PAGE = "/admin/quota/reservation/"

pytestmark = pytest.mark.usefixtures("consumer")


def reserve(calls: int) -> Any:
    return reservations.reserve(consumer="reader", operation="shelf", calls=calls, source="shelf 7")


def release(client: Client, *chosen: Any, **fields: str) -> Any:
    return client.post(PAGE, {"action": "release", "_selected_action": chosen, **fields}, follow=True)


def test_open_reservations_come_first_with_their_age_and_what_they_still_hold(
    admin_client: Client, set_clock: SetClock
) -> None:
    old = reserve(3)
    reservations.dispatch(old, kind=RequestKind.PAGE, method="GET", path="/author/x")
    newer = reserve(1)
    reservations.settle(newer)
    set_clock(NOON + timedelta(seconds=90))
    page = admin_client.get(PAGE)
    first, second = page.context["cl"].result_list
    assert (first.pk, second.pk) == (old, newer)
    assert "1 min" in page.text
    assert admin_client.get(f"{PAGE}{old}/change/").status_code == 200


@pytest.mark.slow
def test_the_list_uses_an_index_for_any_length(admin_client: Client, consumer: Consumer) -> None:
    with connection.cursor() as cursor:
        reservations.open_ledger()
        cursor.execute(
            "INSERT INTO quota_reservation (id, day, consumer_id, operation, source, asked, calls, dispatched, state,"
            " created_at, expires_at, closed_at) SELECT gen_random_uuid(), '2026-05-05', %s, 'x', '', 1, 1, 1,"
            " 'settled', quota_now(), quota_now(), quota_now() FROM generate_series(1, 3000)",
            [consumer.pk],
        )
        cursor.execute("ANALYZE quota_reservation")
        listed = admin_client.get(PAGE).context["cl"].result_list
        query, params = listed.query.sql_with_params()
        cursor.execute(f"EXPLAIN {query}", params)
        plan = "\n".join(line for [line] in cursor.fetchall())
    assert "quota_reservation_open_first" in plan
    assert "Seq Scan on quota_reservation" not in plan


@pytest.mark.slow
def test_a_release_needs_a_reason_returns_undispatched_calls_and_is_logged(admin_client: Client) -> None:
    used, idle, closed = reserve(5), reserve(2), reserve(1)
    reservations.dispatch(used, kind=RequestKind.PAGE, method="GET", path="/author/x")
    reservations.settle(closed)
    asked = release(admin_client, used, idle, closed)
    assert "Release 6 calls?" in asked.text
    assert get_status().reserved == 6
    assert "This field is required" in release(admin_client, used, idle, _form_submitted="True", reason="  ").text
    assert get_status().reserved == 6
    done = release(admin_client, used, idle, closed, _form_submitted="True", reason="the worker hangs")
    assert [str(message) for message in done.context["messages"]] == ["Released 6 calls of 2 reservations."]
    assert (get_status().used, get_status().reserved) == (1, 0)
    assert check_ledger(NOON.date()) == []
    assert set(Reservation.objects.values_list("state", flat=True)) == {"settled"}
    assert sorted(LogEntry.objects.values_list("object_id", "change_message")) == sorted(
        [
            (str(used), "Released 4 calls. Reason: the worker hangs"),
            (str(idle), "Released 2 calls. Reason: the worker hangs"),
        ]
    )
    with pytest.raises(ReservationClosed):
        reservations.dispatch(used, kind=RequestKind.PAGE, method="GET", path="/author/x")
    again = release(admin_client, used, _form_submitted="True", reason="twice")
    assert [str(message) for message in again.context["messages"]] == [
        "None of these reservations is open, so there is nothing to release."
    ]
