"""API keys in the admin: create, rotate and revoke, each with a reason. A key is shown once and stored nowhere."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.test import Client
from rest_framework.test import APIClient

from quota.exceptions import KeyNotUsable
from quota.models import Consumer, ConsumerKey
from quota.services.keys import revoke_key, rotate_key


def is_accepted(key: str) -> bool:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    return client.get("/api/quota/me").status_code == 200


def act(client: Client, consumer: Consumer, what: str, **fields: str) -> Any:
    given = {"_form_submitted": "True", **fields} if fields else {}
    return client.post(f"/admin/quota/consumer/{consumer.pk}/keys/{what}/", given, follow=True)


def shown(page: Any) -> str:
    """The key on the page. No cache, session or history stores it."""
    assert page.redirect_chain == []
    assert "no-store" in page.headers["Cache-Control"]
    [key] = re.findall(r'value="([A-Za-z0-9]{8}\.[A-Za-z0-9]{32})"', page.text)
    assert key not in str(page.headers) + str(page.cookies)
    secret = key.partition(".")[2]
    assert not any(secret in str(session.get_decoded()) for session in Session.objects.all())
    assert not any(secret in entry.change_message for entry in LogEntry.objects.all())
    return key


def log() -> list[str]:
    return list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))


@pytest.mark.slow
def test_a_new_key_is_shown_once_and_is_accepted(
    admin_client: Client, consumer: Consumer, caplog: pytest.LogCaptureFixture
) -> None:
    assert "This field is required" in act(admin_client, consumer, "add", name="shelf", reason="").text
    assert not ConsumerKey.objects.exists()
    last_day = datetime.now(UTC).date() + timedelta(days=3)
    made = act(
        admin_client, consumer, "add", name="shelf", sees_all="on", last_day=f"{last_day}", reason="a new client"
    )
    key = shown(made)
    assert is_accepted(key)
    row = ConsumerKey.objects.get()
    assert (row.consumer, row.name, row.sees_all) == (consumer, "shelf", True)
    assert row.expiry_date.date() == last_day + timedelta(days=1)
    assert log() == [f"Created the key “shelf” ({row.prefix}…). Reason: a new client"]
    assert key.partition(".")[2] not in caplog.text
    changes = admin_client.get("/admin/admin/logentry/").text
    assert "Reason: a new client" in changes
    assert f"/admin/quota/consumer/{consumer.pk}/change/" in changes
    page = admin_client.get(f"/admin/quota/consumer/{consumer.pk}/change/").text
    assert row.prefix in page
    assert key not in page
    assert row.hashed_key not in page
    assert (
        "This day is in the past."
        in act(admin_client, consumer, "add", name="x", last_day="2020-01-01", reason="late").text
    )


@pytest.mark.parametrize(("ends", "words"), [("", "immediately"), ("24", "in 1 day")])
def test_a_rotated_key_expires_immediately_or_after_a_grace_period(
    ends: str, words: str, admin_client: Client, consumer: Consumer, key: str
) -> None:
    old = ConsumerKey.objects.get()
    new = shown(act(admin_client, consumer, f"{old.prefix}/rotate", ends=ends, reason="it leaked"))
    assert is_accepted(new)
    assert is_accepted(key) is bool(ends)
    old.refresh_from_db()
    row = ConsumerKey.objects.exclude(pk=old.pk).get()
    assert (row.name, row.sees_all, row.expiry_date) == (old.name, old.sees_all, None)
    entry = (
        f"Replaced the key “test” ({old.prefix}…) with {row.prefix}…. The old key expires {words}. Reason: it leaked"
    )
    assert log() == [entry]
    if ends:
        assert timedelta(hours=23) < old.expiry_date - datetime.now(UTC) < timedelta(hours=25)


@pytest.mark.slow
def test_a_revoked_key_is_refused_and_cannot_be_rotated(admin_client: Client, consumer: Consumer, key: str) -> None:
    row = ConsumerKey.objects.get()
    assert "This cannot be undone" in act(admin_client, consumer, f"{row.prefix}/revoke").text
    assert is_accepted(key)
    done = act(admin_client, consumer, f"{row.prefix}/revoke", reason="it leaked")
    assert f"Revoked the key “test” ({row.prefix}…)." in done.text
    assert not is_accepted(key)
    assert log() == [f"Revoked the key “test” ({row.prefix}…). Reason: it leaked"]
    for what in ("rotate", "revoke"):
        page = act(admin_client, consumer, f"{row.prefix}/{what}", reason="again")
        assert f"The key {row.prefix} is revoked already." in page.text
    assert ConsumerKey.objects.count() == len(log()) == 1
    other = Consumer.objects.create(slug="other")
    assert act(admin_client, other, f"{row.prefix}/revoke", reason="not its own").status_code == 404


@pytest.mark.slow
def test_reloading_the_page_creates_no_second_key(admin_client: Client, consumer: Consumer) -> None:
    def once(what: str) -> str:
        [token] = re.findall(r'name="once" value="([^"]+)"', act(admin_client, consumer, what).text)
        return str(token)

    for what, fields in (("add", {"name": "shelf"}), ("rotate", {"ends": "24"})):
        page = what if what == "add" else f"{ConsumerKey.objects.get().prefix}/rotate"
        given = fields | {"reason": "a new client", "once": once(page)}
        assert "This field is required" in act(admin_client, consumer, page, **given | {"name": "", "reason": ""}).text
        key = shown(act(admin_client, consumer, page, **given))
        again = act(admin_client, consumer, page, **given)
        assert "its key was shown then" in again.text
        assert key.partition(".")[2] not in again.text
        assert len(log()) == ConsumerKey.objects.count()
    assert ConsumerKey.objects.count() == 2


def test_a_grace_period_never_extends_a_key_and_an_expired_key_is_not_replaced(consumer: Consumer, key: str) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    ConsumerKey.objects.update(expiry_date=soon)
    row, _ = rotate_key(key.partition(".")[0], grace=timedelta(days=7))
    assert set(ConsumerKey.objects.values_list("expiry_date", flat=True)) == {soon}
    ConsumerKey.objects.update(expiry_date=datetime.now(UTC) - timedelta(seconds=1))
    for service in (rotate_key, revoke_key):
        with pytest.raises(KeyNotUsable):
            service(row.prefix)


def test_the_page_of_a_new_key_asks_for_a_daily_budget_and_offers_that_of_the_setting(
    admin_client: Client, consumer: Consumer, settings
) -> None:
    settings.CONSUMER_DAILY_BUDGET = 500
    assert 'name="daily_budget" value="500"' in " ".join(act(admin_client, consumer, "add").text.split())
    shown(act(admin_client, consumer, "add", name="rea\u200bder", daily_budget="250", reason="a new client"))
    consumer.refresh_from_db()
    assert consumer.daily_budget == 250
    assert consumer.history.first().history_change_reason == "a new client"
    assert ConsumerKey.objects.get().name == "reader"
    assert 'name="daily_budget" value="250"' in " ".join(act(admin_client, consumer, "add").text.split())
    assert 'name="daily_budget" value="500"' in " ".join(admin_client.get("/admin/quota/consumer/add/").text.split())
