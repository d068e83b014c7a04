"""Requests by key and minute: a 429 that is not from the quota, and no throttle without Redis."""

import time

import pytest
from rest_framework.test import APIClient

from quota import throttling
from quota.models import Consumer, ConsumerKey

PATH = "/api/books/12345"  # a 404 that depends only on the ISBN
MINUTE = 1_800_000_000.0  # the start of a minute


@pytest.fixture(autouse=True)
def three_a_minute(settings, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.API_REQUESTS_PER_MINUTE = 3
    monkeypatch.setattr(time, "time", lambda: MINUTE + 48.5)
    monkeypatch.setattr(throttling.RequestsPerMinute, "not_before", 0.0)


@pytest.fixture
def clients() -> list[APIClient]:
    """One for each of two keys of the same consumer."""
    reader = Consumer.objects.create(slug="reader")
    made = []
    for name in ("one", "two"):
        made.append(client := APIClient())
        client.credentials(
            HTTP_AUTHORIZATION=f"Api-Key {ConsumerKey.objects.create_key(name=name, consumer=reader)[1]}"
        )
    return made


def statuses(client: APIClient, requests: int) -> list[int]:
    return [client.get(PATH).status_code for _ in range(requests)]


def test_one_request_too_many_gets_a_429_that_is_not_from_the_quota(clients: list[APIClient]) -> None:
    assert statuses(clients[0], 4) == [404, 404, 404, 429]
    response = clients[0].get(PATH)
    body = response.json()
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (body["status"], body["code"], body["type"]) == (429, "throttled", "urn:alexandria:problem:throttled")
    assert response.headers["Retry-After"] == "12"
    assert not {"limit", "quota", "refusal"} & set(body)
    assert "RateLimit" not in response.headers


def test_each_key_and_each_minute_has_its_own_count(clients: list[APIClient], monkeypatch: pytest.MonkeyPatch) -> None:
    assert statuses(clients[0], 4)[-1] == 429
    assert statuses(clients[1], 3) == [404, 404, 404]
    monkeypatch.setattr(time, "time", lambda: MINUTE + 60)
    assert statuses(clients[0], 4) == [404, 404, 404, 429]


def test_0_is_no_limit(clients: list[APIClient], settings) -> None:
    settings.API_REQUESTS_PER_MINUTE = 0
    assert set(statuses(clients[0], 5)) == {404}


def test_without_redis_no_request_is_throttled_and_redis_is_tried_again_later(
    clients: list[APIClient], settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    working, uncounted = settings.CACHES, throttling.NOT_THROTTLED._value.get()
    settings.CACHES = {"default": working["default"] | {"LOCATION": "redis://127.0.0.1:1/0"}}
    assert set(statuses(clients[0], 5)) == {404}
    assert caplog.text.count("api.not_throttled") == 1
    assert throttling.NOT_THROTTLED._value.get() == uncounted + 5
    settings.CACHES = working
    assert throttling.RequestsPerMinute.not_before > 0
    monkeypatch.setattr(throttling.RequestsPerMinute, "not_before", 0.0)
    assert statuses(clients[0], 4)[-1] == 429
