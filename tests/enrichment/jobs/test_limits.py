"""Limits of a consumer's jobs that have not ended: how many, and with how many items."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from alexandria.development.sandbox.server import Sandbox
from enrichment.exceptions import JobError, TooManyItems, TooManyJobs
from enrichment.jobs import lifecycle, limits
from enrichment.jobs.kinds import batch_direct as batches
from enrichment.jobs.lifecycle import cancel_job, create_job, retry_job
from enrichment.models import Job, JobItem
from quota.models import Consumer
from tests.fixtures import known_isbns, problem

PATH = "/api/enrich/batch-direct"


@pytest.fixture(autouse=True)
def few(settings, consumer: Consumer) -> None:
    settings.MAX_JOBS_PER_CONSUMER, settings.MAX_JOB_ITEMS_PER_CONSUMER = 2, 10


def create(isbns: int = 1, *, consumer: str = "reader", key: str | None = None) -> Job:
    return create_job(
        consumer=Consumer.objects.get(slug=consumer),
        kind=Job.Kind.BATCH_DIRECT,
        wanted={"isbns": known_isbns(isbns)},
        idempotency_key=key,
    )


def post(api: APIClient, isbns: int, **headers: str) -> Any:
    body = {"isbns": known_isbns(isbns)}
    return api.post(PATH, body, format="json", headers={"Prefer": "respond-async"} | headers)


def test_a_job_too_many_is_refused_with_429_that_names_the_setting(api: APIClient) -> None:
    for _ in range(2):
        assert post(api, 1).status_code == 202
    response = post(api, 1)
    refused = problem(response, 429)
    assert (refused["code"], refused["limit"]) == ("too_many_jobs", "MAX_JOBS_PER_CONSUMER")
    assert (refused["allowed"], refused["used"], refused["asked"]) == (2, 2, 1)
    assert "MAX_JOBS_PER_CONSUMER" in refused["detail"]
    assert response.headers["Retry-After"] == "60"
    assert Job.objects.count() == 2


def test_items_too_many_are_refused_before_any_is_stored(api: APIClient) -> None:
    assert post(api, 8).status_code == 202
    response = post(api, 3)
    refused = problem(response, 429)
    assert (refused["code"], refused["limit"]) == ("too_many_items", "MAX_JOB_ITEMS_PER_CONSUMER")
    assert (refused["allowed"], refused["used"], refused["asked"]) == (10, 8, 3)
    assert response.headers["Retry-After"] == "60"
    never = post(api, 11)
    assert problem(never, 429)["code"] == "too_many_items"
    assert "Retry-After" not in never.headers, "waiting does not help"
    assert JobItem.objects.count() == 8
    assert post(api, 2).status_code == 202


def test_values_that_are_not_isbns_are_items_too(api: APIClient) -> None:
    response = api.post(PATH, {"isbns": ["x"] * 11}, format="json", headers={"Prefer": "respond-async"})
    assert problem(response, 429)["asked"] == 11


def test_an_ended_job_makes_room_and_others_have_their_own(consumer: Consumer) -> None:
    Consumer.objects.create(slug="other")
    first, second = create(5), create(5)
    create(10, consumer="other")
    with pytest.raises(TooManyJobs):
        create()
    cancel_job(first.pk)
    with pytest.raises(TooManyItems):
        create(6)
    create(5)
    with pytest.raises(TooManyJobs):
        retry_job(first.pk)
    assert Job.objects.get(pk=first.pk).state == "cancelled"
    cancel_job(second.pk)
    assert retry_job(first.pk).state == "queued"


def test_the_job_of_an_idempotency_key_is_returned_also_at_the_limit(consumer: Consumer) -> None:
    first = create(key="once")
    create()
    assert create(key="once").pk == first.pk


@pytest.mark.slow
@pytest.mark.parametrize(("lock", "created"), [(False, 3), (True, 2)], ids=["without the lock", "with it"])
def test_requests_at_once_cannot_pass_a_limit(
    lock: bool, created: int, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    create()
    stored, checked = Barrier(2, timeout=30), Barrier(2, timeout=30)
    insert = batches.Kind.insert

    def insert_and_meet(kind: batches.Kind, rows: list[batches.Row]) -> None:
        insert(kind, rows)
        stored.wait()

    def check_and_meet(job: Job) -> None:
        limits.check_limits(job)
        checked.wait()

    monkeypatch.setattr(batches.Kind, "insert", insert_and_meet)
    if not lock:
        monkeypatch.setattr(lifecycle, "hold_limits", check_and_meet)

    def send(_: int) -> uuid.UUID | None:
        try:
            return create().pk
        except JobError:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(send, range(2)))
    assert Job.objects.count() == created


def test_a_consumer_sees_its_limits_and_what_is_used(api: APIClient, sandbox: Sandbox) -> None:
    create(3)
    cancel_job(create(4).pk)
    assert api.post("/api/enrich/queue", {"isbns": known_isbns(2)}, format="json").status_code == 202
    shown = {each["limit"]: (each["used"], each["allowed"]) for each in api.get("/api/quota/me").json()["limits"]}
    assert shown == {
        "MAX_JOBS_PER_CONSUMER": (1, 2),
        "MAX_JOB_ITEMS_PER_CONSUMER": (3, 10),
        "MAX_QUEUED_PER_CONSUMER": (2, 100_000),
    }
