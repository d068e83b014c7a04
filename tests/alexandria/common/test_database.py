"""Waiting for the database: with growing pauses, for a limited time, and only when that can help."""

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import DatabaseError, InterfaceError, OperationalError

from alexandria.common import database
from alexandria.common.database import patiently


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made. They are all that takes time."""
    made: list[float] = []
    monkeypatch.setattr(database, "time", SimpleNamespace(monotonic=lambda: sum(made), sleep=made.append))
    return made


def failing(error: Exception, *, times: int) -> Callable[[], str]:
    left = iter(range(times))

    def do() -> str:
        if next(left, None) is not None:
            raise error
        return "done"

    return do


def caused_by(cause: Exception) -> Exception:
    error = RuntimeError("a test")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error", [OperationalError("gone"), InterfaceError("closed"), caused_by(OperationalError("gone"))], ids=repr
)
def test_what_the_database_failed_to_do_is_done_when_it_is_back(error: Exception, pauses: list[float]) -> None:
    assert patiently(failing(error, times=6), patience=timedelta(seconds=60)) == "done"
    assert pauses == [0.25, 0.5, 1, 2, 2, 2]


def test_after_its_patience_it_raises_the_last_error(pauses: list[float]) -> None:
    with pytest.raises(OperationalError):
        patiently(failing(OperationalError("gone"), times=1000), patience=timedelta(seconds=5))
    assert pauses == [0.25, 0.5, 1, 2]


@pytest.mark.parametrize("error", [ValueError("a test"), DatabaseError("a test"), caused_by(KeyError())], ids=repr)
def test_an_error_that_no_wait_mends_is_raised_at_once(error: Exception, pauses: list[float]) -> None:
    with pytest.raises(type(error)):
        patiently(failing(error, times=1), patience=timedelta(seconds=60))
    assert pauses == []
