"""Guarantee 1 and the pace, with real processes: first the race without the lock, then no race with it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db.models import Sum

from quota.models import Call, Consumer, DailyLedger, Reservation
from quota.selectors.status import check_ledger, get_status
from quota.services import reservations
from tests import processes
from tests.fixtures import changed_function

pytestmark = pytest.mark.slow

PROCESSES = 64
LEFT = 1000
MAX_RPS = 3


@pytest.fixture(autouse=True)
def last_thousand_calls(set_clock, no_waits, settings) -> None:
    """A day with 500 calls used and LEFT left."""
    settings.QUOTA_DAILY_LIMIT = 500 + LEFT + 200
    settings.QUOTA_SAFETY_BUFFER = 200
    settings.QUOTA_MAX_RPS = MAX_RPS
    reservations.increment(500)
    Consumer.objects.create(slug="racer")


@contextmanager
def lock_taken_out() -> Iterator[None]:
    """quota_reserve without the words that lock the day's row.

    A short sleep replaces them, in which other processes can read the same row. Without the sleep, a process that is
    not interrupted writes before the next one reads, and the race would depend on the scheduler.
    """
    with changed_function("quota_reserve", "FOR NO KEY UPDATE;", "; PERFORM pg_sleep(0.01);"):
        yield


def race(calls_at_once: int | str = 1, **environment: str) -> list[dict[str, Any]]:
    """What each of the racers got, in processes with the test's environment and `environment`.

    `calls_at_once`: what each operation reserves, or "batches" for the price of batches of 1 to 1,000 ISBNs.
    """
    result = subprocess.run(
        [sys.executable, "-m", "tests.quota.racing", str(PROCESSES), str(calls_at_once)],
        env=processes.environment() | environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    racers = json.loads(result.stdout)
    assert len(racers) == PROCESSES
    return racers


def granted(racers: list[dict[str, Any]]) -> int:
    return sum(racer["granted"] for racer in racers)


def most_in_a_second(racers: list[dict[str, Any]]) -> int:
    """The largest number of send times within any second."""
    times = sorted(moment for racer in racers for moment in racer["sent"])
    return max(sum(1 for other in times[first : first + 50] if other - start <= 1) for first, start in enumerate(times))


def test_without_the_lock_64_processes_get_more_calls_than_there_are_and_send_too_fast() -> None:
    with lock_taken_out():
        racers = race()
    assert granted(racers) > LEFT
    assert most_in_a_second(racers) > MAX_RPS


def test_64_processes_racing_for_the_last_1000_calls_get_exactly_1000_at_no_more_than_3_a_second() -> None:
    racers = race()
    assert granted(racers) == LEFT
    assert sum(len(racer["sent"]) for racer in racers) == LEFT == Call.objects.filter(consumer__slug="racer").count()
    assert most_in_a_second(racers) <= MAX_RPS
    status = get_status()
    assert (status.used, status.reserved, status.remaining) == (1500, 0, 0)
    assert check_ledger(status.day) == []


def test_operations_of_several_calls_never_split_or_overrun_what_is_left() -> None:
    racers = race(calls_at_once=7)
    assert granted(racers) == LEFT // 7 * 7
    status = get_status()
    assert status.used + status.reserved == 500 + LEFT // 7 * 7
    assert check_ledger(status.day) == []
    for reservation in Reservation.objects.values_list("id", flat=True):
        reservations.settle(reservation)
    assert get_status().reserved == 0


@pytest.mark.parametrize("price", ["request", "isbn"])
def test_64_processes_racing_with_batches_of_any_size_for_the_last_2500_calls_spend_exactly_2500(price: str) -> None:
    """Each batch that is refused is cut to what is free, so that in the end nothing is left."""
    DailyLedger.objects.update(daily_limit=500 + 2500 + 200)
    racers = race("batches", ISBNDB_BATCH_PRICE=price)
    assert granted(racers) == 2500
    batches = Call.objects.filter(consumer__slug="racer")
    paid = batches.aggregate(calls=Sum("calls"), isbns=Sum("isbns_asked"))
    assert paid["calls"] == 2500
    assert (paid["isbns"] if price == "isbn" else batches.count()) == 2500
    status = get_status()
    assert (status.used, status.reserved, status.remaining, status.requests) == (3000, 0, 0, batches.count())
    assert most_in_a_second(racers) <= MAX_RPS
    assert check_ledger(status.day) == []
