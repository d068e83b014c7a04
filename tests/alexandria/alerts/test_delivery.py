"""Messages are delivered: with growing pauses between attempts, once per claim, and also when a sender dies."""

import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from django.conf import settings
from django.core import mail
from django.db import IntegrityError, connection

from alexandria.alerts import delivery, webhooks
from alexandria.alerts.delivery import CLAIM, PAUSES, deliver_due, retry, send_test
from alexandria.alerts.exceptions import NothingToRetry
from alexandria.alerts.models import Delivery, Severity, Webhook
from alexandria.alerts.rules import Finding
from alexandria.alerts.services import HOLD, apply
from alexandria.alerts.webhooks import secret_of
from tests import processes
from tests.alexandria.alerts.receiver import Receiver
from tests.fixtures import NOON, At

FIRE = Finding("fire", "fire", Severity.CRITICAL, "It burns", "In the cellar.")


@pytest.fixture(autouse=True)
def at_noon(at: At) -> None:
    pass


def after(message: Delivery) -> float:
    """Seconds after noon."""
    message.refresh_from_db()
    assert message.next_attempt_at is not None
    return (message.next_attempt_at - NOON).total_seconds()


@pytest.fixture
def message(webhook: Webhook) -> Delivery:
    apply([FIRE], now=NOON)
    return Delivery.objects.get()


def test_a_delivered_message_is_sent_once(message: Delivery, receiver: Receiver) -> None:
    assert (delivery.are_due(), deliver_due(), deliver_due(), delivery.are_due()) == (True, 1, 0, False)
    message.refresh_from_db()
    assert (message.state, message.attempts, message.status, message.error) == ("delivered", 1, 200, "")
    assert message.latency_ms is not None
    assert message.ended_at == NOON
    [got] = receiver.received
    assert got.headers["webhook-id"] == str(message.pk)


@pytest.mark.slow
def test_the_pauses_between_attempts_grow_and_vary_and_then_the_message_is_given_up(
    message: Delivery, receiver: Receiver, at: At
) -> None:
    receiver.answers = [500, 302, 404, 503, 500, 429]
    now = 0.0
    for number, pause in enumerate(PAUSES, start=1):
        assert deliver_due() == 0
        seconds = after(message) - now
        assert 0.8 * pause.total_seconds() <= seconds <= 1.2 * pause.total_seconds()
        assert (message.state, message.attempts) == ("pending", number)
        at(now + seconds - 1)
        assert (deliver_due(), len(receiver.received)) == (0, number)
        now += seconds
        at(now)
    assert deliver_due() == 0
    message.refresh_from_db()
    assert (message.state, message.attempts, message.next_attempt_at) == ("failed", 6, None)
    assert (message.status, message.error) == (429, "The receiver answered with status 429: thanks")
    assert {got.headers["webhook-id"] for got in receiver.received} == {str(message.pk)}
    assert len({got.body for got in receiver.received}) == 1


@pytest.mark.slow
def test_only_a_message_that_was_given_up_can_be_sent_again(message: Delivery, receiver: Receiver) -> None:
    with pytest.raises(NothingToRetry):
        retry(message.pk)
    Delivery.objects.update(state="failed", next_attempt_at=None, ended_at=NOON, attempts=6)
    receiver.answers = [500]
    assert (retry(message.pk).state, after(message) > 20) == ("pending", True)
    Delivery.objects.update(state="failed", next_attempt_at=None, ended_at=NOON)
    sent = retry(message.pk)
    assert (sent.state, sent.attempts, sent.error) == ("delivered", 1, "")
    with pytest.raises(NothingToRetry):
        retry(message.pk)


def test_one_of_many_senders_at_once_sends(message: Delivery, receiver: Receiver) -> None:
    start = threading.Barrier(6)
    results: list[int] = []

    def one() -> None:
        connection.ensure_connection()
        start.wait(30)
        results.append(deliver_due())
        connection.close()

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(results), len(receiver.received)) == (1, 1)


@pytest.mark.parametrize(("point", "received"), [("before", 1), ("after", 2)])
@pytest.mark.slow
def test_a_message_whose_sender_was_killed_is_sent_by_another(
    point: str, received: int, message: Delivery, receiver: Receiver, at: At
) -> None:
    environment = processes.environment() | {"ALERT_WEBHOOKS_TO_PRIVATE": "on"}
    command = [sys.executable, "-m", "tests.alexandria.alerts.doomed_sender", point]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as sender:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "waiting\n"
        assert deliver_due() == 0, "another sender has claimed the message"
        sender.kill()
    assert sender.returncode == -signal.SIGKILL
    at(CLAIM.total_seconds() - 1)
    assert deliver_due() == 0
    at(CLAIM.total_seconds())
    assert deliver_due() == 1
    message.refresh_from_db()
    assert (message.state, message.attempts) == ("delivered", 2)
    assert len(receiver.received) == received
    assert {got.headers["webhook-id"] for got in receiver.received} == {str(message.pk)}


def test_a_claim_outlives_the_longest_attempt() -> None:
    assert CLAIM.total_seconds() > max(webhooks.MAX_SECONDS, settings.EMAIL_TIMEOUT)


def test_a_sender_whose_claim_is_over_does_not_overwrite_the_attempt_of_another(
    message: Delivery, receiver: Receiver, at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answers = [500, 503]
    send, another = webhooks.send, iter([deliver_due])

    def send_late(*args: Any, **options: Any) -> int:
        if (deliver := next(another, None)) is not None:
            at(CLAIM.total_seconds())
            deliver()
        return send(*args, **options)

    monkeypatch.setattr(webhooks, "send", send_late)
    deliver_due()
    message.refresh_from_db()
    assert (message.attempts, message.status) == (2, 500)


@pytest.mark.slow
def test_a_channel_that_fails_does_not_delay_the_others(
    webhook: Webhook, receiver: Receiver, mailing: None, mailoutbox: list[Any]
) -> None:
    Webhook.objects.create(name="nobody", url="http://127.0.0.1:1/")
    Webhook.objects.create(name="no host", url="http://nowhere.invalid/")
    apply([FIRE], now=NOON)
    assert deliver_due() == 2
    assert (len(receiver.received), len(mailoutbox)) == (1, 1)
    errors = dict(Delivery.objects.filter(state="pending").values_list("to", "error"))
    assert errors["no host"] == "nowhere.invalid has no address."
    assert errors["nobody"].startswith("127.0.0.1: ConnectError")


def test_a_run_ends_in_time_and_the_other_messages_stay_due(
    message: Delivery, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "MAX_RUN_SECONDS", 0.0)
    assert (deliver_due(), receiver.received, delivery.are_due()) == (0, [], True)


def test_a_webhook_that_is_off_or_deleted_receives_nothing(message: Delivery, receiver: Receiver, at: At) -> None:
    Webhook.objects.update(active=False)
    assert deliver_due() == 0
    message.refresh_from_db()
    assert message.error == "The webhook is switched off or was deleted."
    Webhook.objects.all().delete()
    at(120)
    assert deliver_due() == 0
    assert receiver.received == []
    message.refresh_from_db()
    assert (message.to, message.webhook) == ("chat", None)


def test_an_email_says_what_and_when_and_the_recovery_is_in_its_thread(mailing: None, mailoutbox: list[Any]) -> None:
    apply([FIRE], now=NOON)
    apply([], now=NOON + HOLD)
    Delivery.objects.update(next_attempt_at=NOON)
    assert deliver_due() == 2
    first, second = mailoutbox
    assert (first.subject, second.subject) == ("[Staging] Critical: It burns", "[Staging] Recovered: It burns")
    assert (first.to, first.from_email) == (["ops@books.example", "night@books.example"], "alexandria@books.example")
    assert "In the cellar." in first.body
    assert "Opened: 2026-05-05T12:00:00Z" in first.body
    assert "Recovered: 2026-05-05T12:02:00Z" in second.body
    assert first.extra_headers["References"] == second.extra_headers["References"]
    assert first.extra_headers["Message-ID"] != second.extra_headers["Message-ID"]


@contextmanager
def smtp_server(answer: bytes = b"250 taken") -> Iterator[tuple[int, list[bytes]]]:
    """A small SMTP server. Yields its port and the mails that it received."""
    mails: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say(b"220 here")
            while line := self.rfile.readline():
                match line.split()[0].upper():
                    case b"DATA":
                        self.say(b"354 go on")
                        mails.append(b"".join(iter(self.rfile.readline, b".\r\n")))
                        self.say(answer)
                    case b"QUIT":
                        self.say(b"221 bye")
                        return
                    case _:
                        self.say(b"250 well")

        def say(self, line: bytes) -> None:
            self.wfile.write(line + b"\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_address[1], mails
        server.shutdown()
        thread.join()


def test_email_goes_over_smtp_and_is_tried_again_after_a_refusal(mailing: None, settings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_HOST_USER, settings.EMAIL_USE_TLS = "127.0.0.1", "", False
    apply([FIRE], now=NOON)
    with smtp_server(b"451 not now") as (settings.EMAIL_PORT, _):
        assert deliver_due() == 0
    message = Delivery.objects.get()
    assert (message.state, message.error) == ("pending", "SMTPDataError: (451, b'not now')")
    Delivery.objects.update(next_attempt_at=NOON)
    with smtp_server() as (settings.EMAIL_PORT, mails):
        assert deliver_due() == 1
    [got] = [message_from_bytes(each, policy=default) for each in mails]
    assert (got["subject"], got["message-id"]) == (
        "[Staging] Critical: It burns",
        f"<{message.pk}@alerts.alexandria>",
    )
    Delivery.objects.update(state="pending", next_attempt_at=NOON, ended_at=None)
    assert deliver_due() == 0  # no server listens
    assert "Connection refused" in Delivery.objects.get().error


def test_a_test_message_is_sent_once_at_once_and_its_result_is_kept(
    webhook: Webhook, receiver: Receiver, mailing: None
) -> None:
    good = send_test(webhook)
    assert (good.event, good.state, good.status, good.alert) == ("alert.test", "delivered", 200, None)
    assert good.payload["data"]["alert"] is None
    receiver.answers = [418]
    bad = send_test(webhook)
    assert (bad.state, bad.status, bad.attempts) == ("failed", 418, 1)
    assert (send_test(None).state, mail.outbox[0].subject) == ("delivered", "[Staging] Test")


def test_a_test_email_without_recipients_reports_it() -> None:
    assert send_test(None).error == "ALERT_EMAIL_TO is empty. Set it to send e-mail."


@pytest.mark.slow
def test_the_secret_and_the_path_of_the_address_are_not_logged_or_kept(
    message: Delivery, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [500]
    deliver_due()
    Delivery.objects.update(next_attempt_at=NOON)
    deliver_due()
    written = f"{caplog.text} {Delivery.objects.values()}"
    assert "chat" in written
    assert "a-secret-path" not in written
    assert secret_of(Webhook.objects.get()) not in written


def test_the_database_refuses_a_message_that_would_never_be_sent(message: Delivery) -> None:
    with pytest.raises(IntegrityError, match="alerts_delivery_pending_has_next_attempt"):
        Delivery.objects.update(next_attempt_at=None)
    with pytest.raises(IntegrityError, match="alerts_delivery_channel_known"):
        Delivery.objects.update(channel="email")
