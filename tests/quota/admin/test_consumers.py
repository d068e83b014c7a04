"""Consumers in the admin: their limits, what is left today, and a reason for every change."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from quota.models import Consumer, ConsumerUsage, Switches
from quota.services import reservations
from tests.fixtures import NOON

LIST = "/admin/quota/consumer/"


def page_of(consumer: Consumer) -> str:
    return f"{LIST}{consumer.pk}/change/"


def limits(**fields: Any) -> dict[str, Any]:
    nothing = {
        "slug": "reader",
        "kind": "api",
        "active": "on",
        "floor": "0",
        "daily_budget": "",
        "cap_per_operation": "",
    }
    return nothing | fields


def log() -> list[str]:
    return list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))


@pytest.mark.slow
def test_a_change_of_limits_needs_a_reason_which_both_histories_show(admin_client: Client, consumer: Consumer) -> None:
    refused = admin_client.post(page_of(consumer), limits(daily_budget="500"))
    assert "This field is required" in refused.text
    assert "Today" in refused.text  # the figures are shown within Django's transaction, too
    consumer.refresh_from_db()
    assert consumer.floor == 0
    admin_client.post(page_of(consumer), limits(daily_budget="5000", floor="10", reason="a busy week"))
    consumer.refresh_from_db()
    assert (consumer.daily_budget, consumer.floor) == (5000, 10)
    assert log() == ["Changed floor from 0 to 10, daily budget from nothing to 5,000. Reason: a busy week"]
    newest = consumer.history.latest()
    assert (newest.history_change_reason, newest.history_user.username) == ("a busy week", "admin")
    admin_client.post(f"{LIST}add/", limits(slug="new", reason="a new shelf"))
    assert log()[-1] == "Added. Reason: a new shelf"


@pytest.mark.parametrize(("action", "active"), [("switch_off", False), ("switch_on", True)])
def test_switching_off_and_on_needs_a_reason(
    action: str, active: bool, admin_client: Client, consumer: Consumer
) -> None:
    Consumer.objects.filter(pk=consumer.pk).update(active=not active)
    chosen = {"action": action, "_selected_action": [consumer.pk]}
    assert "reader?" in admin_client.post(LIST, chosen).text
    consumer.refresh_from_db()
    assert consumer.active is not active
    done = admin_client.post(LIST, chosen | {"_form_submitted": "True", "reason": "a test"}, follow=True)
    word = "on" if active else "off"
    assert [str(message) for message in done.context["messages"]] == [f"1 consumer switched {word}."]
    consumer.refresh_from_db()
    assert consumer.active is active
    assert consumer.history.latest().history_change_reason == "a test"
    assert consumer.history.latest().active is active
    assert log() == [f"Switched {word}. Reason: a test"]


def test_the_list_shows_what_each_consumer_can_spend_and_what_limits_it(
    admin_client: Client, consumer: Consumer
) -> None:
    Consumer.objects.filter(pk=consumer.pk).update(daily_budget=50)
    Consumer.objects.create(slug="night", kind="cron", floor=1000)
    Consumer.objects.create(slug="off", active=False)
    reservations.increment(20, consumer="reader")
    reservations.reserve(consumer="reader", operation="shelf", calls=5)

    def shown() -> dict[str, str]:
        page = admin_client.get(LIST)
        admin = page.context["cl"].model_admin
        return {row.slug: admin.free_today(row) for row in page.context["cl"].result_list}

    assert shown() == {
        "night": "11,975, limit: floor (calls that stay free for others)",
        "off": "12,975, but this consumer is switched off",
        "reader": "25, limit: daily budget",
    }
    assert "20 of 50" in admin_client.get(LIST).text
    Switches.objects.create(harvest_enabled=False)
    assert shown()["night"] == "0, limit: harvest switched off"
    assert (
        "<strong>25 free for one operation</strong>, limit: daily budget." in admin_client.get(page_of(consumer)).text
    )


def test_more_consumers_need_no_more_queries(admin_client: Client, consumer: Consumer) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            admin_client.get(LIST)
        return len(asked)

    reservations.open_ledger()
    queries()  # the first request fills caches
    few = queries()
    many = Consumer.objects.bulk_create(Consumer(slug=f"consumer-{number}") for number in range(60))
    ConsumerUsage.objects.bulk_create(ConsumerUsage(ledger_id=NOON.date(), consumer=one, used=1) for one in many)
    assert queries() == few < 12


def test_restoring_an_earlier_version_needs_a_reason_too(admin_client: Client, consumer: Consumer) -> None:
    admin_client.post(page_of(consumer), limits(floor="10", reason="a busy week"))
    page = f"{LIST}{consumer.pk}/history/{consumer.history.earliest().pk}/"
    assert 'name="reason"' in admin_client.get(page).text
    assert "This field is required" in admin_client.post(page, limits()).text
    assert admin_client.post(page, limits(reason="it is over")).status_code == 302
    consumer.refresh_from_db()
    assert consumer.floor == 0
    assert consumer.history.latest().history_change_reason == "it is over"
