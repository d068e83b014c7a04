"""Jobs over HTTP: Prefer: respond-async, /api/jobs, cancel, retry, and idempotency keys."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from alexandria.development.sandbox.server import Sandbox
from enrichment.jobs.workers import run_job
from enrichment.models import Job
from quota.models import Consumer, ConsumerKey
from quota.services import reservations
from tests.fixtures import NOON, balance, broker_moved, database_moved, known_isbns, problem, unknown_isbns

PATH = "/api/enrich/batch-direct"
KNOWN = known_isbns(5)
UNKNOWN = unknown_isbns(1)
BODY = {"isbns": [*KNOWN, *UNKNOWN, "x"], "source": "shelf 7"}


def accept(api: APIClient, body: object = BODY, *, prefer: str = "respond-async", **headers: str) -> Any:
    return api.post(PATH, body, format="json", headers={"Prefer": prefer} | headers)


def created(api: APIClient, body: object = BODY, **headers: str) -> str:
    """The address of a new job."""
    response = accept(api, body, **headers)
    assert response.status_code == 202, response.content
    return str(response["Location"])


@pytest.mark.slow
def test_a_job_is_accepted_at_once_and_shows_its_progress_and_result(
    api: APIClient, sandbox: Sandbox, settings
) -> None:
    settings.ISBNDB_BATCH_SIZE = 4
    response = accept(api)
    assert response.status_code == 202
    assert response["Preference-Applied"] == "respond-async"
    assert "Prefer" in response["Vary"].split(", ")
    assert response["RateLimit"].startswith('"daily";r=13000;t=')
    body = response.json()
    assert response["Location"] == f"/api/jobs/{body['id']}"
    assert body["progress"] == {"done": 0, "total": 6}
    assert (body["state"], body["kind"], body["source"]) == ("queued", "batch-direct", "shelf 7")
    assert (body["on_exhausted"], body["api_calls"], body["result"]) == ("fail", 0, None)
    eta = datetime.fromisoformat(body["eta"])
    assert NOON < eta < NOON + timedelta(minutes=10)
    assert sandbox.requests == []

    run_job()
    shown = api.get(response["Location"])
    assert shown["RateLimit"].startswith('"daily";r=12998;t=')
    body = shown.json()
    assert (body["state"], body["progress"], body["eta"]) == ("succeeded", {"done": 6, "total": 6}, None)
    assert body["failures"] == {
        "by_reason": {"not an ISBN": 1},
        "first": [{"isbn": "x", "state": "invalid", "reason": "not an ISBN"}],
    }
    assert body["result"] == {
        "requested": 7,
        "valid": 6,
        "enriched": 5,
        "created": 5,
        "updated": 0,
        "unchanged": 0,
        "already_fresh": 0,
        "not_found": 1,
        "failed": 0,
        "duplicates": 0,
        "invalid": 1,
        "notes": [],
        "api_calls": 2,
    }
    assert (body["api_calls"], body["quota"]["used"], body["resume_at"], body["stopped_reason"]) == (2, 2, None, None)
    assert balance(sandbox) == (2, 2)

    items = api.get(f"{response['Location']}/items").json()
    assert [item["state"] for item in items["results"]] == ["enriched"] * 5 + ["not_found", "invalid"]
    missing = api.get(f"{response['Location']}/items?state=not_found").json()
    assert missing["results"] == [
        {
            "isbn": UNKNOWN[0],
            "state": "not_found",
            "reason": "",
            "input": UNKNOWN[0],
            "isbn13": UNKNOWN[0],
            "suggestion": None,
        }
    ]
    problem(api.get(f"{response['Location']}/items?state=lost"), 400)


def test_a_job_that_the_broker_does_not_take_says_when_it_starts(api: APIClient) -> None:
    with broker_moved(port=1):
        response = accept(api)
    assert (response.status_code, response.json()["state"]) == (202, "queued")
    assert "starts within 15 seconds after Redis answers again" in response.json()["notice"]
    assert api.get(response["Location"]).json()["notice"] is None
    assert accept(api, ["9780441172719"]).json()["notice"] is None


@pytest.mark.parametrize(
    ("prefer", "status"),
    [
        ("respond-async", 202),
        ("Respond-Async", 202),
        ("wait=10, respond-async", 202),
        ("respond-async; x=1, wait=10", 202),
        ('foo="a, b", respond-async', 202),
        ('respond-async = ""', 202),
        ("", 200),
        ("return=minimal", 200),
        ("respond-asynchronously", 200),
        ('foo="x, respond-async"', 200),
        ('foo="\\", respond-async"', 200),
        ("x; respond-async", 200),
    ],
)
def test_only_the_exact_preference_creates_a_job(prefer: str, status: int, api: APIClient, sandbox: Sandbox) -> None:
    response = accept(api, ["x"], prefer=prefer)
    assert response.status_code == status
    assert "Prefer" in response["Vary"].split(", ")
    assert response.has_header("Preference-Applied") == (status == 202)
    assert Job.objects.count() == (status == 202)


@pytest.mark.slow
@pytest.mark.no_cover
def test_a_job_takes_a_hundred_thousand_isbns_and_no_more(api: APIClient, sandbox: Sandbox) -> None:
    isbns = [*KNOWN, *["978-0-00-000000-3"] * (100_000 - len(KNOWN))]
    location = created(api, {"isbns": isbns})
    run_job()
    body = api.get(location).json()
    assert (body["state"], body["progress"]["total"], body["api_calls"]) == ("succeeded", 5, 1)
    assert body["failures"]["by_reason"] == {"wrong check digit": 99_995}
    assert len(body["failures"]["first"]) == 1000
    pages, page = [], api.get(f"{location}/items?state=invalid").json()
    pages.append(page)
    pages.append(api.get(page["next"]).json())
    assert [len(page["results"]) for page in pages] == [1000, 1000]
    assert balance(sandbox) == (1, 1)
    refused = problem(accept(api, {"isbns": ["x"] * 100_001}), 400)
    assert refused["detail"].endswith("100,000 with `Prefer: respond-async`.")
    problem(api.post(PATH, {"isbns": ["x"] * 1001}, format="json"), 400)


@pytest.mark.slow
def test_a_job_waits_only_on_request_and_shows_until_when(api: APIClient, sandbox: Sandbox) -> None:
    reservations.increment(13_000)
    failed, waiting = created(api), created(api, BODY | {"on_exhausted": "wait"})
    run_job()
    run_job()
    body = api.get(failed).json()
    assert (body["state"], body["stopped_reason"], body["resume_at"]) == ("failed", "safety_limit", None)
    assert body["failures"]["by_reason"] == {body["error"]: 6, "not an ISBN": 1}
    body = api.get(waiting).json()
    assert (body["state"], body["stopped_reason"], body["ended_at"]) == ("waiting", "safety_limit", None)
    assert body["resume_at"].startswith("2026-05-06T00:00:")
    assert body["eta"] >= body["resume_at"]
    assert sandbox.requests == []
    refused = problem(api.post(PATH, BODY | {"on_exhausted": "wait"}, format="json"), 400)
    assert refused["detail"] == "on_exhausted: This works only for a job. Send the header Prefer: respond-async."
    problem(accept(api, BODY | {"on_exhausted": "perhaps"}), 400)


def test_jobs_are_listed_newest_first_and_by_state(api: APIClient, sandbox: Sandbox) -> None:
    locations = [created(api) for _ in range(3)]
    run_job()  # the first
    listed = api.get("/api/jobs").json()
    assert [f"/api/jobs/{job['id']}" for job in listed["results"]] == locations[::-1]
    assert (listed["next"], listed["previous"]) == (None, None)
    listed = api.get("/api/jobs?state=succeeded").json()
    assert [f"/api/jobs/{job['id']}" for job in listed["results"]] == [locations[0]]
    assert problem(api.get("/api/jobs?state=lost"), 400)["errors"][0]["field"] == "state"


def test_a_job_is_cancelled_and_retried(api: APIClient, sandbox: Sandbox) -> None:
    location = created(api)
    cancelled = api.post(f"{location}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert cancelled.json()["failures"]["by_reason"] == {"Cancelled.": 6, "not an ISBN": 1}
    assert problem(api.post(f"{location}/cancel"), 409)["code"] == "job_ended"
    retried = api.post(f"{location}/retry")
    assert (retried.status_code, retried.json()["state"]) == (202, "queued")
    assert problem(api.post(f"{location}/retry"), 409)["code"] == "nothing_to_retry"
    Job.objects.update(
        state="running", runner=uuid.uuid4(), lease_until=NOON + timedelta(days=1), started_at=NOON, resume_at=None
    )
    asked = api.post(f"{location}/cancel")
    assert (asked.status_code, asked.json()["state"], asked.json()["cancel_requested"]) == (202, "running", True)


def test_a_consumer_cannot_see_or_change_the_jobs_of_others(api: APIClient, sandbox: Sandbox) -> None:
    location = created(api)
    _, key = ConsumerKey.objects.create_key(name="other", consumer=Consumer.objects.create(slug="other"))
    api.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    assert api.get("/api/jobs").json()["results"] == []
    for path in (location, f"{location}/items", f"/api/jobs/{uuid.uuid4()}", "/api/jobs/1"):
        problem(api.get(path), 404)
    for path in (f"{location}/cancel", f"{location}/retry"):
        problem(api.post(path), 404)
    assert created(api, **{"Idempotency-Key": "a"}) != location
    api.credentials()
    for path in ("/api/jobs", location):
        problem(api.get(path), 401)


@pytest.mark.slow
def test_the_same_key_with_the_same_body_returns_the_same_job_and_another_body_is_refused(
    api: APIClient, sandbox: Sandbox
) -> None:
    first = created(api, **{"Idempotency-Key": "shelf-7"})
    assert created(api, **{"Idempotency-Key": "shelf-7"}) == first
    assert created(api, **{"Idempotency-Key": '"shelf-7"'}) == first, "a quoted string is the same key"
    run_job()
    again = accept(api, **{"Idempotency-Key": "shelf-7"})
    assert (again["Location"], again.json()["state"]) == (first, "succeeded")
    for other in (BODY | {"isbns": KNOWN}, BODY | {"on_exhausted": "wait"}, BODY | {"refresh": True}):
        assert problem(accept(api, other, **{"Idempotency-Key": "shelf-7"}), 409)["code"] == "idempotency_conflict"
    assert created(api, **{"Idempotency-Key": "shelf-8"}) != first
    assert created(api) != first
    assert Job.objects.count() == 3


@pytest.mark.parametrize("given", ["", " ", '""', "x" * 129, "a\tb", "schlüssel", "\x7f"])
def test_a_malformed_key_is_refused(given: str, api: APIClient, sandbox: Sandbox) -> None:
    response = api.post(
        PATH, json.dumps(BODY), content_type="application/json", HTTP_PREFER="respond-async", HTTP_IDEMPOTENCY_KEY=given
    )
    assert problem(response, 422)["code"] == "idempotency_key_malformed"
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, BODY),
        ("/api/authors/enrich-bibliography", {"author_name": "Andy Weir"}),
        ("/api/books/enrich-new-releases", {"start_month": "2026-01", "end_month": "2026-01"}),
    ],
)
def test_an_idempotency_key_without_a_job_and_a_reserved_source_are_refused(
    path: str, body: dict[str, Any], api: APIClient, sandbox: Sandbox
) -> None:
    response = api.post(path, body, format="json", headers={"Idempotency-Key": "shelf-7"})
    assert [error["field"] for error in problem(response, 400)["errors"]] == ["Idempotency-Key"]
    for source in ("job:1", "run:1"):
        response = api.post(path, body | {"source": source}, format="json")
        assert [error["field"] for error in problem(response, 400)["errors"]] == ["source"]
    assert sandbox.requests == []


def test_a_job_that_will_fail_for_lack_of_quota_has_no_eta(api: APIClient, sandbox: Sandbox, settings) -> None:
    settings.ISBNDB_BATCH_SIZE = 1
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 10, 5
    etas = [accept(api, BODY | {"on_exhausted": word}).json()["eta"] for word in ("fail", "wait")]
    assert etas[0] is None
    assert datetime.fromisoformat(etas[1]) > NOON + timedelta(hours=12)


@pytest.mark.slow
def test_many_requests_with_the_same_key_at_once_create_one_job(api: APIClient, sandbox: Sandbox) -> None:
    def send(_: int) -> str:
        try:
            return created(api, {"isbns": [*KNOWN] * 1000}, **{"Idempotency-Key": "once"})
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(send, range(4)))) == 1
    assert [Job.objects.get().items.filter(state=state).count() for state in ("pending", "duplicate")] == [5, 4995]


def test_a_job_above_the_consumers_cap_is_refused_with_429(api: APIClient, sandbox: Sandbox, settings) -> None:
    settings.ISBNDB_BATCH_SIZE = 1
    Consumer.objects.update(cap_per_operation=5)
    refused = problem(accept(api), 429)
    assert (refused["limit"], refused["asked"], refused["free"]) == ("cap_per_operation", 6, 5)
    assert not Job.objects.exists()


def test_without_the_database_the_answer_is_503_and_there_is_no_job(api: APIClient, sandbox: Sandbox) -> None:
    with database_moved(port=1):
        problem(accept(api), 503)
    assert not Job.objects.exists()
