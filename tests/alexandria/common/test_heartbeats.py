"""A heartbeat keeps a claim, also after a failure of the database, until its work ends."""

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError

from alexandria.common import heartbeats


def test_after_a_failure_of_the_database_the_heart_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "HEARTBEAT", timedelta(milliseconds=1))
    failures, beats = [OperationalError("a test")], threading.Event()

    def beat() -> bool:
        if failures:
            raise failures.pop()
        beats.set()
        return True

    with heartbeats.heartbeats(beat):
        assert beats.wait(10)
