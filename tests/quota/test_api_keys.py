"""Authentication with `Authorization: Api-Key …`."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from quota.models import Consumer, ConsumerKey

PATH = "/api/books/9780441013593"
LET_IN = 404  # there is no such book; unlike the quota, books can be read in the test's transaction


@pytest.fixture
def key(db: None) -> str:
    _, key = ConsumerKey.objects.create_key(name="test", consumer=Consumer.objects.create(slug="reader"))
    return key


def ask(authorization: str | None) -> tuple[int, str]:
    """The status and the detail of the problem."""
    client = APIClient(raise_request_exception=False)
    if authorization is not None:
        client.credentials(HTTP_AUTHORIZATION=authorization)
    response = client.get(PATH)
    if response.status_code == 401:
        assert response.headers["WWW-Authenticate"] == "Api-Key"
    assert response.headers["Content-Type"] == "application/problem+json"
    return response.status_code, json.loads(response.content)["detail"]


def test_a_key_of_an_active_consumer_gets_in(key: str) -> None:
    assert ask(f"Api-Key {key}")[0] == LET_IN


@pytest.mark.parametrize("authorization", [None, ""], ids=["none", "empty"])
def test_a_request_without_a_key_is_refused(key: str, authorization: str | None) -> None:
    assert ask(authorization)[0] == 401


@pytest.mark.parametrize(
    "header",
    ["Bearer {key}", "{key}", "Api-Key", "Api-Key ", "Basic dXNlcjpwdw=="],
)
def test_another_form_of_the_header_is_refused_and_the_error_shows_the_right_form(key: str, header: str) -> None:
    status, detail = ask(header.format(key=key))
    assert status == 401
    assert "Api-Key <key>" in detail


@pytest.mark.parametrize(
    "wrong",
    [
        "nonsense",
        "a.b",
        ".",
        " ",
        "{prefix}.wrong",
        "{prefix}.",
        "{key}x",
        "{key} {key}",
        "x" * 8000,
        "{prefix}.\u00e4",
    ],
    ids=lambda wrong: ascii(wrong[:12]),
)
def test_an_unknown_key_is_refused(key: str, wrong: str) -> None:
    given = wrong.format(key=key, prefix=key.partition(".")[0])
    assert ask(f"Api-Key {given}")[0] == 401


def test_a_revoked_key_is_refused(key: str) -> None:
    ConsumerKey.objects.update(revoked=True)
    assert ask(f"Api-Key {key}")[0] == 401


@pytest.mark.parametrize(("lasts", "status"), [(timedelta(hours=1), LET_IN), (-timedelta(seconds=1), 401)])
def test_an_expired_key_is_refused(key: str, lasts: timedelta, status: int) -> None:
    ConsumerKey.objects.update(expiry_date=timezone.now() + lasts)
    assert ask(f"Api-Key {key}")[0] == status


def test_the_error_says_that_the_consumer_is_switched_off(key: str) -> None:
    Consumer.objects.update(active=False)
    status, detail = ask(f"Api-Key {key}")
    assert status == 403
    assert "switched off" in detail


def test_a_deleted_consumers_key_is_refused(key: str) -> None:
    Consumer.objects.all().delete()
    assert ask(f"Api-Key {key}")[0] == 401


def test_only_a_hash_of_the_key_is_stored(key: str) -> None:
    row = str(ConsumerKey.objects.values().get())
    assert key not in row
    assert key.partition(".")[2] not in row
