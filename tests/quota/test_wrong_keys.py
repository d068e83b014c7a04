"""An address that sends many wrong keys is refused without a query; a key that was right before is not."""

import time
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from quota import wrong_keys
from quota.wrong_keys import MAX_WRONG_KEYS, WrongKeys
from tests.fixtures import problem

GUESSER, OTHER = "198.51.100.7", "192.0.2.1"


def ask(key: str, *, address: str = GUESSER, path: str = "/api/quota/status") -> Any:
    return APIClient(REMOTE_ADDR=address).get(path, headers={"Authorization": f"Api-Key {key}"})


@pytest.mark.django_db(transaction=True)
def test_after_many_wrong_keys_an_address_is_refused_without_a_query(key: str, monkeypatch) -> None:
    assert ask(key).status_code == 200
    for number in range(MAX_WRONG_KEYS):
        problem(ask(f"{key[:8]}.wrong{number}"), 401)
    with CaptureQueriesContext(connection) as queries:
        refused = ask(f"{key[:8]}.wrong")
    assert problem(refused, 429)["code"] == "throttled"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert len(queries) == 0

    assert ask("wrong.wrong", path="/isbndb/stats").json()["message"] == "Per minute quota exceeded"
    assert ask(key).status_code == 200, "this key was right before"
    assert ask("wrong.wrong", address=OTHER).status_code == 401
    monkeypatch.setattr(wrong_keys, "monotonic", lambda: time.monotonic() + 60)
    assert ask(f"{key[:8]}.wrong").status_code == 401


def test_only_so_many_addresses_and_keys_are_remembered(monkeypatch) -> None:
    seen = WrongKeys()
    monkeypatch.setattr(wrong_keys, "MAX_ADDRESSES", 2)
    monkeypatch.setattr(wrong_keys, "MAX_RIGHT_KEYS", 1)
    for address in ("a", "b", "c"):
        for _ in range(MAX_WRONG_KEYS):
            seen.add_wrong(address)
    assert seen.seconds_to_wait("a", "key") == 0
    assert seen.seconds_to_wait("c", "key") > 0
    seen.add_right("one")
    seen.add_right("two")
    assert seen.seconds_to_wait("c", "one") > 0
    assert seen.seconds_to_wait("c", "two") == 0
