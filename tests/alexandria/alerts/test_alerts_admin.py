"""Alerts, webhooks and deliveries in the admin: view, set up, test and send again."""

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from alexandria.alerts import admin
from alexandria.alerts.delivery import deliver_due
from alexandria.alerts.models import Alert, Delivery, Severity, Webhook
from alexandria.alerts.rules import Finding
from alexandria.alerts.services import HOLD, apply
from alexandria.alerts.webhooks import secret_of
from tests.alexandria.alerts.receiver import Receiver
from tests.fixtures import NOON

pytestmark = pytest.mark.usefixtures("at")

FINDINGS = [Finding(severity, "fire", Severity(severity), f"It burns: {severity}", "Here.") for severity in Severity]


def page(model: str, view: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:alerts_{model}_{view}", args=args)


def member_of(group: str) -> Client:
    """Staff in one of the groups that the migration has given permissions to."""
    import_module("alexandria.migrations.0001_groups").make_groups(apps, None)
    user = User.objects.create(username=group, is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


def message_of(response: Any) -> str:
    """The message on the page that the response redirects to."""
    assert response.status_code == 302, response.text
    return str(next(iter(response.client.get(response["Location"]).context["messages"])))


@pytest.mark.slow
def test_open_alerts_come_first_and_show_their_messages(
    admin_client: Client, webhook: Webhook, receiver: Receiver
) -> None:
    apply(FINDINGS[:2], now=NOON)
    apply(FINDINGS[:1], now=NOON + HOLD)
    receiver.answers = [500]
    deliver_due()
    listed = admin_client.get(page("alert"))
    assert [alert.title for alert in listed.context["cl"].result_list] == ["It burns: info", "It burns: warning"]
    shown = admin_client.get(page("alert"), {"open": "no"}).context["cl"].result_list
    assert [alert.title for alert in shown] == ["It burns: warning"]
    detail = admin_client.get(page("alert", "change", Alert.objects.get(key="warning").pk)).text
    assert "recovered to chat" in detail
    assert "opened to chat" in detail


def test_history_cannot_be_changed(admin_client: Client, webhook: Webhook) -> None:
    apply(FINDINGS[:1], now=NOON)
    for model, row in (("alert", Alert.objects.get()), ("delivery", Delivery.objects.get())):
        assert admin_client.get(page(model, "add")).status_code == 403
        assert admin_client.post(page(model, "change", row.pk), {}).status_code == 403
        assert admin_client.post(page(model, "delete", row.pk), {"post": "yes"}).status_code == 403


@pytest.mark.slow
def test_longer_lists_need_no_more_queries(admin_client: Client, webhook: Webhook) -> None:
    for number in range(30):
        apply([Finding(f"fire {number}", "fire", Severity.INFO, "It burns", "")], now=NOON)
    for model in ("alert", "delivery"):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert len(admin_client.get(page(model)).context["cl"].result_list) == 30
        assert len(queries) < 15


def test_the_secret_of_a_new_webhook_is_shown_once(admin_client: Client, receiver: Receiver) -> None:
    fields = {"name": "chat", "url": receiver.url, "min_severity": "info", "active": "on"}
    made = admin_client.post(page("webhook", "add"), fields)
    webhook = Webhook.objects.get()
    secret = secret_of(webhook)
    assert made.status_code == 200
    assert "no-store" in made["Cache-Control"]
    assert f'value="{secret}"' in made.text
    again = admin_client.get(page("webhook", "change", webhook.pk)).text
    assert "whsec_" not in again + admin_client.get(page("webhook")).text
    assert webhook.seed not in again
    assert LogEntry.objects.get().is_addition()


def test_a_new_secret_replaces_the_old_one(admin_client: Client, webhook: Webhook) -> None:
    before = secret_of(webhook)
    asked = admin_client.get(page("webhook", "new_secret", webhook.pk))
    assert "The old secret is no longer valid." in asked.text
    assert secret_of(Webhook.objects.get()) == before
    given = admin_client.post(page("webhook", "new_secret", webhook.pk))
    after = secret_of(Webhook.objects.get())
    assert after != before
    assert f'value="{after}"' in given.text
    entry = LogEntry.objects.get()
    assert entry.change_message == "Created a new secret."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://127.0.0.1/", "127.0.0.1 is not a public address (ALERT_WEBHOOKS_TO_PRIVATE allows others)."),
        (
            "http://hooks.example/",
            "The address must begin with https:// (ALERT_WEBHOOKS_TO_PRIVATE=on allows http:// too).",
        ),
        ("https://me:hunter2@hooks.example/", "The address must not contain user:password@."),
    ],
)
def test_an_unsuitable_address_is_refused_beside_the_field(url: str, why: str, admin_client: Client) -> None:
    refused = admin_client.post(page("webhook", "add"), {"name": "chat", "url": url, "min_severity": "info"})
    assert refused.context["adminform"].form.errors == {"url": [why]}
    assert Webhook.objects.count() == 0


def test_a_host_is_resolved_outside_of_any_transaction(
    admin_client: Client, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[bool] = []
    monkeypatch.setattr(admin, "check_url", lambda url: inside.append(connection.in_atomic_block))
    admin_client.post(page("webhook", "add"), {"name": "chat", "url": receiver.url, "min_severity": "info"})
    assert inside == [False]


@pytest.mark.slow
def test_the_test_button_sends_immediately_and_shows_the_answer(
    admin_client: Client, webhook: Webhook, receiver: Receiver
) -> None:
    button = page("webhook", "send_test", webhook.pk)
    assert button in admin_client.get(page("webhook", "change", webhook.pk)).text
    assert "Alexandria sends a signed test message to 127.0.0.1." in admin_client.get(button).text
    assert receiver.received == []
    assert message_of(admin_client.post(button)).startswith("Delivered to chat with status 200 in ")
    receiver.answers = [500]
    assert message_of(admin_client.post(button)).endswith("The receiver answered with status 500: thanks")
    assert set(LogEntry.objects.values_list("change_message", flat=True)) == {"Sent a test message."}
    Webhook.objects.update(active=False)
    assert "switched off" in message_of(admin_client.post(button))


def test_the_test_mail_button_appears_if_mail_is_configured(
    admin_client: Client, mailing: None, mailoutbox: list[Any], settings
) -> None:
    button = page("delivery", "test_mail")
    assert button in admin_client.get(page("delivery")).text
    assert "ops@books.example, night@books.example" in admin_client.get(button).text
    assert message_of(admin_client.post(button)).startswith("Delivered to ops@books.example, night@books.example in ")
    assert len(mailoutbox) == 1
    settings.ALERT_EMAIL_TO = []
    assert button not in admin_client.get(page("delivery")).text
    assert admin_client.post(button).status_code == 403


@pytest.mark.slow
def test_a_failed_message_can_be_sent_again(admin_client: Client, webhook: Webhook, receiver: Receiver) -> None:
    apply(FINDINGS[:1], now=NOON)
    message = Delivery.objects.get()
    button = page("delivery", "retry", message.pk)
    assert button not in admin_client.get(page("delivery", "change", message.pk)).text
    assert message_of(admin_client.post(button)) == "Only a message that was given up can be sent again."
    Delivery.objects.update(state="failed", next_attempt_at=None, ended_at=NOON)
    assert button in admin_client.get(page("delivery", "change", message.pk)).text
    assert admin_client.get(button).status_code == 200
    assert receiver.received == []
    assert message_of(admin_client.post(button)).startswith("Delivered to chat with status 200 in ")
    assert len(receiver.received) == 1


@pytest.mark.slow
def test_viewers_look_operators_test_and_managers_configure(
    webhook: Webhook, receiver: Receiver, mailing: None
) -> None:
    viewer, operator, manager = (member_of(group) for group in ("viewers", "operators", "managers"))
    pages = [page("alert"), page("delivery"), page("webhook"), page("webhook", "change", webhook.pk)]
    assert [viewer.get(each).status_code for each in pages] == [200, 200, 403, 403]
    assert [operator.get(each).status_code for each in pages] == [200, 200, 200, 200]
    test, secret = (page("webhook", view, webhook.pk) for view in ("send_test", "new_secret"))
    assert [client.post(test).status_code for client in (viewer, operator, manager)] == [403, 302, 302]
    assert [client.get(page("webhook", "add")).status_code for client in (viewer, operator, manager)] == [403, 403, 200]
    assert [client.post(secret).status_code for client in (viewer, operator, manager)] == [403, 403, 200]
    retry, mail = page("delivery", "retry", Delivery.objects.first().pk), page("delivery", "test_mail")
    assert [client.post(retry).status_code for client in (viewer, operator)] == [403, 302]
    assert [client.post(mail).status_code for client in (viewer, operator)] == [403, 302]


def test_only_a_user_who_can_change_an_address_sees_its_path(webhook: Webhook) -> None:
    manager, operator = member_of("managers"), member_of("operators")
    seen_by_manager = manager.get(page("webhook", "change", webhook.pk)).text
    seen_by_operator = operator.get(page("webhook", "change", webhook.pk)).text
    assert "a-secret-path" in seen_by_manager
    assert "a-secret-path" not in seen_by_operator + manager.get(page("webhook")).text
    assert "127.0.0.1" in seen_by_operator
