"""Messages about jobs: signed, written with the change of the job, and sent to the address of the job or consumer."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.urls import reverse
from rest_framework.test import APIClient

from alexandria.alerts import delivery
from alexandria.alerts.delivery import deliver_due
from alexandria.alerts.models import Delivery, Severity, Webhook
from alexandria.alerts.rules import Finding
from alexandria.alerts.services import apply, webhook_of
from alexandria.alerts.tasks import deliver_alerts
from alexandria.alerts.webhooks import secret_of
from alexandria.development.sandbox.server import Sandbox
from enrichment.jobs.lifecycle import cancel_job
from enrichment.jobs.workers import run_job
from enrichment.models import Job
from enrichment.services.releases import Wanted, resume_token
from quota.models import Consumer
from tests.alexandria.alerts.receiver import Receiver
from tests.fixtures import NOON, SetClock, known_isbns, problem

PATH = "/api/enrich/batch-direct"
WANTED = Wanted(date(2026, 1, 1), date(2026, 1, 1), 1)
FIRE = Finding("fire", "fire", Severity.CRITICAL, "It burns", "In the cellar.")


def accepted(api: APIClient, count: int = 2, **fields: object) -> Job:
    body = {"isbns": known_isbns(count), **fields}
    response = api.post(PATH, body, format="json", headers={"Prefer": "respond-async"})
    assert response.status_code == 202, response.content
    return Job.objects.get(pk=response.json()["id"])


def run(job: Job) -> Job:
    run_job()
    return Job.objects.get(pk=job.pk)


def messages(receiver: Receiver) -> list[dict[str, Any]]:
    return [json.loads(got.body) for got in receiver.received]


def test_a_job_that_has_succeeded_is_reported_once_to_its_address_and_signed_with_the_secret_of_its_consumer(
    api: APIClient, sandbox: Sandbox, receiver: Receiver, verify: Any
) -> None:
    told = api.get("/api/jobs/webhook")
    assert (told.json()["host"], told.json()["active"], told["Cache-Control"]) == (None, True, "no-store")
    job = run(accepted(api, notify_url=receiver.url, source="shelf 7"))
    assert job.state == "succeeded"
    assert (deliver_due(), deliver_due()) == (1, 0)
    [got] = receiver.received
    assert verify(told.json()["secret"], got.headers, got.body)
    assert not verify(told.json()["secret"], got.headers, got.body + b" ")
    message = json.loads(got.body)
    assert got.path == "/hooks/a-secret-path"
    assert (message["type"], message["id"]) == ("job.succeeded", got.headers["webhook-id"])
    told_job = message["data"]["job"]
    assert {name: told_job[name] for name in ("id", "url", "state", "kind", "consumer", "source", "progress")} == {
        "id": str(job.pk),
        "url": f"/api/jobs/{job.pk}",
        "state": "succeeded",
        "kind": "batch-direct",
        "consumer": "reader",
        "source": "shelf 7",
        "progress": {"done": 2, "total": 2},
    }
    assert (told_job["result"]["enriched"], told_job["result"]["api_calls"]) == (2, 1)
    assert "a-secret-path" not in got.body.decode()
    assert api.get(f"/api/jobs/{job.pk}").json()["notify_url"] == receiver.url
    assert Delivery.objects.get().to == "127.0.0.1"


def test_a_job_that_fails_is_reported_and_one_that_is_cancelled_is_not(
    api: APIClient, sandbox: Sandbox, receiver: Receiver
) -> None:
    Consumer.objects.update(daily_budget=0)
    failed = accepted(api, notify_url=receiver.url)
    cancel_job(accepted(api, notify_url=receiver.url).pk)
    run(failed)
    assert deliver_due() == 1
    [message] = messages(receiver)
    assert (message["type"], message["data"]["job"]["stopped_reason"]) == ("job.failed", "daily_budget")


def test_a_job_that_waits_is_reported_once_a_day_and_reason_and_then_its_end(
    api: APIClient, sandbox: Sandbox, receiver: Receiver, set_clock: SetClock, settings
) -> None:
    settings.ISBNDB_BATCH_SIZE = 1
    Consumer.objects.update(daily_budget=1)
    job = accepted(api, count=3, notify_url=receiver.url, on_exhausted="wait")
    for day, state in ((0, "waiting"), (0, "waiting"), (1, "waiting"), (2, "succeeded")):
        now = NOON + timedelta(days=day)
        set_clock(now)
        sandbox.set_clock(offset_seconds=(now - datetime.now(UTC)).total_seconds())
        Job.objects.filter(pk=job.pk).update(state="queued", resume_at=now)
        assert run(job).state == state
    assert deliver_due() == 3
    told = messages(receiver)
    assert [message["type"] for message in told] == ["job.waiting", "job.waiting", "job.succeeded"]
    assert told[0]["data"]["job"]["resume_at"].startswith("2026-05-06T00:00")
    assert [message["data"]["job"]["stopped_reason"] for message in told] == ["daily_budget", "daily_budget", None]


def test_the_address_of_the_consumer_gets_what_no_address_of_a_job_does(
    api: APIClient, consumer: Consumer, sandbox: Sandbox, receiver: Receiver
) -> None:
    webhook = Webhook.objects.create(name="books", url=receiver.url + "/consumer", consumer=consumer)
    assert api.get("/api/jobs/webhook").json() == {"secret": secret_of(webhook), "host": "127.0.0.1", "active": True}
    run(accepted(api))
    run(accepted(api, notify_url=receiver.url + "/job"))
    apply([FIRE], now=NOON)
    assert deliver_due() == 2
    assert [got.path for got in receiver.received] == ["/hooks/a-secret-path/consumer", "/hooks/a-secret-path/job"]
    Webhook.objects.update(active=False)
    run(accepted(api, notify_url=receiver.url))
    assert (deliver_due(), Delivery.objects.count()) == (0, 2)


def test_a_message_is_written_with_the_change_of_the_job_or_not_at_all(
    api: APIClient, sandbox: Sandbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = accepted(api, notify_url=receiver.url)

    def fails(*_: object, **__: object) -> None:
        assert Delivery.objects.count() == 1
        raise RuntimeError

    monkeypatch.setattr(transaction, "on_commit", fails)
    with pytest.raises(RuntimeError):
        run_job()
    assert (Job.objects.get(pk=job.pk).state, Delivery.objects.count()) == ("running", 0)


def test_neither_the_name_of_another_webhook_nor_a_long_host_keeps_a_job_from_its_end(
    api: APIClient, consumer: Consumer, sandbox: Sandbox, receiver: Receiver
) -> None:
    Webhook.objects.create(name=f"jobs of {consumer.slug}", url=receiver.url)
    job = accepted(api, notify_url=receiver.url)
    host = ".".join([60 * "a"] * 4)
    Job.objects.update(notify_url=f"https://{host}/x")
    assert run(job).state == "succeeded"
    assert Delivery.objects.get().to == host[:200]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("https://127.0.0.1/x", "not a public address"),
        ("https://169.254.169.254/latest", "not a public address"),
        ("http://hooks.example/", "must begin with https:// (ALERT_WEBHOOKS_TO_PRIVATE=on allows http:// too)"),
        ("hooks", "must begin with https://"),
        ("https://me:hunter2@hooks.example/", "must not contain user:password@"),
    ],
)
def test_an_address_that_is_not_public_is_refused_with_the_request(api: APIClient, address: str, why: str) -> None:
    body = {"isbns": known_isbns(1), "notify_url": address}
    refused = problem(api.post(PATH, body, format="json", headers={"Prefer": "respond-async"}), 400)
    [error] = refused["errors"]
    assert error["field"] == "notify_url"
    assert why in error["detail"]
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, {"isbns": ["9780441172719"]}),
        ("/api/authors/enrich-bibliography", {"author_name": "Frank Herbert"}),
        ("/api/authors/bulk-harvest", {"authors": ["Frank Herbert"]}),
        ("/api/books/enrich-new-releases", {"start_month": "2026-01", "end_month": "2026-01"}),
        (
            "/api/books/enrich-new-releases",
            {"resume": resume_token(WANTED, {"begun": 0, "open": {}}, consumer="reader")},
        ),
    ],
)
def test_every_kind_of_job_takes_an_address(
    api: APIClient, receiver: Receiver, path: str, body: dict[str, object]
) -> None:
    response = api.post(path, body | {"notify_url": receiver.url}, format="json", headers={"Prefer": "respond-async"})
    assert response.status_code == 202, response.content
    assert Job.objects.get().notify_url == response.json()["notify_url"] == receiver.url


def test_an_address_without_a_job_is_refused(api: APIClient, receiver: Receiver) -> None:
    refused = problem(api.post(PATH, {"isbns": known_isbns(1), "notify_url": receiver.url}, format="json"), 400)
    assert "only for a job" in refused["errors"][0]["detail"]


def test_an_address_that_has_become_private_gets_nothing(
    api: APIClient, sandbox: Sandbox, receiver: Receiver, settings
) -> None:
    run(accepted(api, notify_url=receiver.url))
    settings.ALERT_WEBHOOKS_TO_PRIVATE = False
    assert (deliver_due(), receiver.received) == (0, [])
    assert "must begin with https://" in Delivery.objects.get().error


def test_alerts_go_first_and_a_receiver_that_does_not_answer_is_asked_once_in_a_run(
    consumer: Consumer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook_of(consumer)
    silent = Webhook.objects.get(consumer=consumer)
    Webhook.objects.create(name="chat", url=receiver.url)
    apply([FIRE], now=NOON)
    for number in range(3):
        Delivery.objects.create(
            event="job.failed", channel="webhook", webhook=silent, url="http://127.0.0.1:1/", to="127.0.0.1",
            payload={"number": number}, next_attempt_at=NOON - timedelta(hours=1), created_at=NOON,
        )  # fmt: skip
    asked: list[str] = []
    real = delivery._send
    monkeypatch.setattr(delivery, "_send", lambda message: asked.append(message.event) or real(message))
    assert deliver_due() == 1
    assert asked == ["alert.opened", "job.failed"]
    assert delivery.are_due()


def test_one_worker_at_a_time_sends_and_takes_what_becomes_due_meanwhile(
    api: APIClient, sandbox: Sandbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (accepted(api, count=count, notify_url=receiver.url) for count in (1, 2))
    send = delivery._send
    sent_by_the_second: list[int] = []

    def send_while_another_job_ends(message: Delivery) -> int | None:
        if Job.objects.filter(state="queued").exists():
            run_job()
            before = len(receiver.received)
            deliver_alerts()
            sent_by_the_second.append(len(receiver.received) - before)
        return send(message)

    run_job()
    monkeypatch.setattr(delivery, "_send", send_while_another_job_ends)
    deliver_alerts()
    assert sent_by_the_second == [0]
    assert {message["data"]["job"]["id"] for message in messages(receiver)} == {str(first.pk), str(second.pk)}
    run(accepted(api, notify_url=receiver.url))
    deliver_alerts()
    assert len(receiver.received) == 3


def test_a_webhook_for_alerts_needs_an_address_and_one_for_a_consumer_does_not(
    admin_client: Any, consumer: Consumer, settings
) -> None:
    settings.ALERT_WEBHOOKS_TO_PRIVATE = True
    add = reverse("admin:alerts_webhook_add")
    fields = {"name": "x", "min_severity": "info", "active": "on"}
    assert admin_client.post(add, fields).status_code == 200
    assert not Webhook.objects.exists()
    shown = admin_client.post(add, fields | {"consumer": consumer.pk})
    webhook = Webhook.objects.get()
    assert webhook.consumer == consumer
    assert secret_of(webhook) in shown.content.decode()
    assert "Messages about the jobs of reader are signed with this secret." in shown.content.decode()
    change = reverse("admin:alerts_webhook_change", args=[webhook.pk])
    assert "Send a test" not in admin_client.get(change).content.decode()
    test = admin_client.post(reverse("admin:alerts_webhook_send_test", args=[webhook.pk]), follow=True)
    assert "The webhook has no address." in test.content.decode()
