"""/api/enrich/queue and the queue's page in the admin."""

import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from alexandria.development.sandbox.server import Sandbox
from enrichment.models import Asker, Edition, QueuedIsbn
from enrichment.models.queue import MAX_ATTEMPTS
from enrichment.services import enrich as enrichment
from enrichment.services.queue import enqueue
from enrichment.services.queue_flush import flush
from quota.models import Call, Consumer
from quota.services import reservations as quota
from tests.enrichment.test_batch_api import BAD_BODIES
from tests.fixtures import At, database_moved, known_isbns, problem, unknown_isbns

PATH = "/api/enrich/queue"

KNOWN = known_isbns(4)


def look(api: APIClient) -> dict[str, Any]:
    response = api.get(PATH)
    assert response.status_code == 200, response.content
    body: dict[str, Any] = response.json()
    return body


@pytest.mark.slow
def test_queuing_answers_for_every_isbn_and_spends_no_call(api: APIClient, sandbox: Sandbox, at: At) -> None:
    enrichment.enrich_isbns([*KNOWN[:1], *unknown_isbns(1)], consumer="reader")
    given = [*KNOWN, *unknown_isbns(1), "978-0-00-000000-3", int(KNOWN[1])]
    response = api.post(PATH, {"isbns": given, "priority": "high", "source": "shelf 7"}, format="json")
    assert response.status_code == 202
    body = response.json()
    assert body.pop("quota")["used"] == 1
    assert body == {
        "requested": 7,
        "valid": 5,
        "duplicates": 1,
        "queued": 3,
        "already_queued": 0,
        "already_fresh": 1,
        "not_found": 1,
        "invalid": [{"isbn": "978-0-00-000000-3", "reason": "wrong check digit"}],
        "yours": {"isbns": 3, "refused_by": None, "why": None},
        "depth": 3,
        "next_flush_at": "2026-05-05T12:00:10Z",
        "warning": "No worker processes the queue. Check that a worker and beat are running.",
        "notes": [],
        "api_calls": 0,
    }
    assert response.headers["RateLimit"].startswith('"daily";r=12999;t=')
    assert set(Asker.objects.values_list("priority", "source", "consumer__slug")) == {(2, "shelf 7", "reader")}

    bare = api.post(PATH, KNOWN, format="json").json()
    assert (bare["queued"], bare["already_queued"], bare["depth"]) == (0, 3, 3)
    at(10)
    flush()
    known = api.post(PATH, KNOWN, format="json").json()
    assert (known["already_fresh"], known["depth"], known["next_flush_at"], known["warning"]) == (4, 0, None, None)
    assert Call.objects.count() == 2


WRONG = {name: body for name, body in BAD_BODIES.items() if name != "refresh"} | {
    "priority": ({"isbns": KNOWN, "priority": "urgent"}, "priority"),
    "no priority": ({"isbns": KNOWN, "priority": None}, "priority"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("body", "field"), WRONG.values(), ids=WRONG)
def test_bad_input_is_refused_with_the_name_of_the_field(
    api_without_key_check: APIClient, body: object, field: str | None
) -> None:
    refused = problem(api_without_key_check.post(PATH, json.dumps(body), content_type="application/json"), 400)
    assert [error["field"] for error in refused["errors"]] == [field]


@pytest.mark.slow
def test_the_queue_shows_what_waits_since_when_and_when_and_why_the_next_batch_is_sent(
    api: APIClient, sandbox: Sandbox, at: At, settings
) -> None:
    empty = look(api)
    assert (empty["depth"], empty["oldest_asked_at"], empty["oldest_age_seconds"]) == (0, None, None)
    assert (empty["next_flush_at"], empty["next_flush_why"], empty["looked_at"]) == (None, None, None)

    api.post(PATH, {"isbns": KNOWN[:2], "priority": "low"}, format="json")
    assert look(api)["next_flush_why"] == "low_due"
    at(100)
    flush()
    api.post(PATH, {"isbns": KNOWN[2:3]}, format="json")
    body = look(api)
    assert body["by_priority"] == {"high": 0, "normal": 1, "low": 2}
    assert (body["depth"], body["under_way"], body["full_batches"], body["failed"]) == (3, 0, 0, 0)
    assert (body["oldest_asked_at"], body["oldest_age_seconds"]) == ("2026-05-05T12:00:00Z", 100)
    assert (body["next_flush_why"], body["next_flush_at"]) == ("normal_due", "2026-05-05T12:02:40Z")
    assert (body["warning"], body["looked_at"], body["flushed_at"]) == (None, "2026-05-05T12:01:40Z", None)
    assert body["quota"]["used"] == 0

    at(161)
    assert "No worker" in look(api)["warning"]
    settings.ISBNDB_BATCH_SIZE = 3
    full = look(api)
    assert (full["full_batches"], full["next_flush_why"]) == (1, "full_batch")
    assert full["next_flush_at"] == "2026-05-05T12:02:41Z"
    flush()
    served = look(api)
    assert (served["depth"], served["warning"], served["flushed_at"]) == (0, None, "2026-05-05T12:02:41Z")


def test_the_queue_says_why_it_does_not_move(api: APIClient, sandbox: Sandbox, at: At, settings) -> None:
    settings.ISBNDB_BATCH_SIZE = 2
    Consumer.objects.filter(slug="reader").update(daily_budget=0)
    posted = api.post(PATH, KNOWN, format="json").json()
    why = "The consumer reader's daily budget is used or reserved. Its daily budget is 0."
    assert posted["yours"] == {"isbns": 4, "refused_by": "daily_budget", "why": why}
    flush()
    body = look(api)
    assert (body["yours"], body["stopped_reason"]) == (posted["yours"], "daily_budget")
    assert body["warning"] == "The queue waits: nobody who asks for its ISBNs can pay for them now."
    assert body["next_flush_at"] is None
    quota.increment(13_000)
    assert "used up or closed" in look(api)["warning"]

    QueuedIsbn.objects.filter(pk=KNOWN[0]).update(attempts=MAX_ATTEMPTS, last_error="ISBNdb failed with status 500.")
    body = look(api)
    assert (body["depth"], body["failed"]) == (3, 1)
    assert body["latest_failed"] == [{"isbn": KNOWN[0], "error": "ISBNdb failed with status 500."}]


def test_without_a_key_or_a_database_nothing_is_accepted(api: APIClient, api_without_key_check: APIClient) -> None:
    with database_moved(port=1):
        for response in (api.get(PATH), api_without_key_check.post(PATH, KNOWN, format="json")):
            assert problem(response, 503)["code"] in {"database_unavailable", "quota_unavailable"}
    Consumer.objects.update(active=False)
    problem(api.post(PATH, KNOWN, format="json"), 403)
    api.credentials()
    for response in (api.get(PATH), api.post(PATH, KNOWN, format="json")):
        problem(response, 401)
    assert not QueuedIsbn.objects.exists()


# In the admin


def act(client: Client, action: str, **confirmation: str) -> str:
    chosen = {"action": action, "_selected_action": KNOWN, **confirmation}
    response = client.post(reverse("admin:enrichment_queuedisbn_changelist"), chosen, follow=True)
    return response.content.decode()


@pytest.mark.slow
def test_an_operator_sees_retries_and_drops_queued_isbns(admin_client: Client, consumer: Consumer) -> None:
    enqueue(KNOWN, priority=QueuedIsbn.Priority.LOW, consumer="reader", source="shelf 7")
    QueuedIsbn.objects.filter(pk__in=KNOWN[:3]).update(attempts=MAX_ATTEMPTS, last_error="<b>failed")
    for state, shown in (("failed", KNOWN[:3]), ("waiting", KNOWN[3:]), ("under_way", []), ("", KNOWN)):
        page = admin_client.get(reverse("admin:enrichment_queuedisbn_changelist"), {"state": state} if state else {})
        text = page.content.decode()
        assert [isbn for isbn in KNOWN if isbn in text] == shown
        assert "<b>failed" not in text
    assert "Queued again for the next batch: 3 ISBNs." in act(admin_client, "retry_failed")
    assert set(QueuedIsbn.objects.values_list("attempts", flat=True)) == {0}
    assert "Queued again for the next batch: 0 ISBNs." in act(admin_client, "retry_failed")
    detail = admin_client.get(reverse("admin:enrichment_queuedisbn_change", args=KNOWN[:1])).content.decode()
    assert 'name="_save"' not in detail
    for unconfirmed in ({}, {"_form_submitted": "True", "reason": " "}):
        asked = act(admin_client, "drop_queued", **unconfirmed)
        assert "Drop 4 ISBNs from the queue?" in asked
        assert all(f'value="{isbn}"' in asked for isbn in KNOWN)
    assert QueuedIsbn.objects.count() == 4
    assert "Dropped 4 ISBNs from the queue." in act(
        admin_client, "drop_queued", _form_submitted="True", reason="asked for by mistake"
    )
    assert not QueuedIsbn.objects.exists()
    said = list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))
    assert said == ["Queued again."] * 3 + ["Dropped. Reason: asked for by mistake"] * 4


def test_the_admin_shows_the_whole_queue_above_its_isbns(admin_client: Client, consumer: Consumer) -> None:
    enqueue(KNOWN, priority=QueuedIsbn.Priority.HIGH, consumer="reader")
    page = admin_client.get(reverse("admin:enrichment_queuedisbn_changelist"))
    assert page.context["queue"].by_priority == {"high": 4, "normal": 0, "low": 0}
    assert "No worker processes the queue" in page.text
    assert "UTC: high due" in page.text


def test_a_user_with_view_permission_only_cannot_drop(admin_user, client: Client, consumer: Consumer) -> None:
    enqueue(KNOWN, priority=QueuedIsbn.Priority.LOW, consumer="reader")
    admin_user.is_superuser = False
    admin_user.save()
    admin_user.user_permissions.add(Permission.objects.get(codename="view_queuedisbn"))
    client.force_login(admin_user)
    act(client, "drop_queued", _form_submitted="True", reason="out of malice")
    assert QueuedIsbn.objects.count() == len(KNOWN)
    assert not Edition.objects.exists()
