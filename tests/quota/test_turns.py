"""Who gets the next slot of the pace: who waits for an answer goes first, and equal consumers get equal turns.

Most tests play many processes in one, with the clock of the database stopped: each tries when it was told to. So what
they show does not depend on how busy the machine is.
"""

import heapq
import subprocess
import sys
import uuid
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count

import pytest

from quota.models import Call, Consumer, DailyLedger
from quota.prices import RequestKind
from quota.services import reservations
from quota.services.reservations import DispatchedCall
from quota.spending import in_background
from tests import processes
from tests.fixtures import NOON, At, SetClock, changed_function, jain

PACE = 1.05 / 3
"""Seconds between two slots, at 3 requests a second."""

ANYBODY = ("AND is_probe IS NOT TRUE", "AND false")
"""What takes the rule of the turns out of quota_take_slot."""


@pytest.fixture(autouse=True)
def stopped_clock(at: At) -> None:
    reservations.open_ledger()


@dataclass
class Process:
    """A process of a consumer that always has the next request to send, or that sends one request at a moment."""

    consumer: str
    urgent: bool = False
    once_at: float | None = None
    waited: float | None = None  # seconds from `once_at` to the send time
    reservation: uuid.UUID = field(init=False)

    def __post_init__(self) -> None:
        Consumer.objects.get_or_create(slug=self.consumer)
        self.reservation = reservations.reserve(
            consumer=self.consumer, operation="x", calls=200, lease=timedelta(days=1)
        )

    def ask(self) -> DispatchedCall | timedelta:
        with nullcontext() if self.urgent else in_background():
            return reservations.dispatch(self.reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")


def run(played: list[Process], at: At, *, seconds: float) -> list[str]:
    """Lets the processes ask for so many seconds, each when it was told to. Returns whose request each slot carries."""
    order = count()
    tries = [(process.once_at or 0.0, next(order), process) for process in played]
    heapq.heapify(tries)
    slots: list[str] = []
    while tries[0][0] < seconds:
        now, _, process = heapq.heappop(tries)
        at(now)
        answer = process.ask()
        if isinstance(answer, timedelta):
            assert answer > timedelta()
            heapq.heappush(tries, (now + answer.total_seconds(), next(order), process))
            continue
        slots.append(process.consumer)
        if process.once_at is None:
            heapq.heappush(tries, (now, next(order), process))
        else:
            process.waited = (answer.send_at - NOON).total_seconds() - process.once_at
    return slots


def ask(consumer: str, *, urgent: bool) -> DispatchedCall | timedelta:
    return Process(consumer, urgent=urgent).ask()


def slot_of(answer: DispatchedCall | timedelta) -> int:
    """The number of the slot, from 0 for the one at noon."""
    assert isinstance(answer, DispatchedCall)
    return round((answer.send_at - NOON).total_seconds() / PACE)


def wait_of(answer: DispatchedCall | timedelta) -> float:
    """The wait, in intervals of the pace."""
    assert isinstance(answer, timedelta)
    return answer.total_seconds() / PACE


def test_background_work_takes_a_slot_at_most_one_ahead_and_who_waits_takes_the_one_after_it() -> None:
    assert [slot_of(ask("job", urgent=False)) for _ in range(2)] == [0, 1]
    assert wait_of(ask("job", urgent=False)) == pytest.approx(1, abs=0.001)
    assert slot_of(ask("reader", urgent=True)) == 2
    assert wait_of(ask("reader", urgent=True)) == pytest.approx(1, abs=0.001)
    assert Call.objects.count() == 3


def test_a_try_at_the_time_that_was_told_gets_the_slot(at: At) -> None:
    job = Process("job")
    for number in range(10):
        answer = job.ask()
        if isinstance(answer, timedelta):
            at(number * PACE - PACE)
            answer = job.ask()
        assert slot_of(answer) == number


def test_background_work_gives_way_to_who_waits_until_the_send_time_has_come(at: At) -> None:
    job, reader = Process("job"), Process("reader", urgent=True)
    for urgent in (True, True, True):
        ask("other", urgent=urgent)
    assert isinstance(reader.ask(), timedelta)
    at(2 * PACE)  # the reader could have taken slot 3 a while ago
    assert wait_of(job.ask()) == pytest.approx(1, abs=0.001)
    at(3 * PACE)  # it never came back
    assert slot_of(job.ask()) == 3


def test_background_work_does_not_wait_for_who_has_got_a_slot(at: At) -> None:
    job, reader = Process("job"), Process("reader", urgent=True)
    for _ in range(3):
        ask("other", urgent=True)
    assert isinstance(reader.ask(), timedelta)
    at(PACE)
    assert slot_of(reader.ask()) == 3
    at(3 * PACE)
    assert slot_of(job.ask()) == 4


def test_endless_work_uses_every_slot_and_equal_consumers_take_turns(at: At) -> None:
    slots = run([Process(f"job {number}") for number in range(4)], at, seconds=20)
    assert len(slots) >= 20 / PACE
    assert all(len(set(slots[first : first + 4])) == 4 for first in range(4, len(slots) - 4))


@pytest.mark.parametrize("urgent", [False, True], ids=["background", "urgent"])
def test_a_consumer_with_six_processes_gets_as_many_slots_as_one_with_one(at: At, urgent: bool) -> None:
    def play() -> list[str]:
        many = [Process("many", urgent=urgent) for _ in range(6)]
        return run([*many, Process("one", urgent=urgent)], at, seconds=20)

    slots = play()
    assert len(slots) >= 20 / PACE
    assert jain(Counter(slots).values()) >= 0.99


def test_without_the_rule_the_consumer_with_six_processes_takes_nearly_everything(at: At) -> None:
    with changed_function("quota_take_slot", *ANYBODY):
        slots = run([*(Process("many") for _ in range(6)), Process("one")], at, seconds=20)
    assert jain(Counter(slots).values()) < 0.8


def test_a_consumer_that_comes_later_goes_first_and_then_takes_its_turn(at: At) -> None:
    newcomer = Process("newcomer", once_at=10.0)
    run([*(Process(f"job {number}") for number in range(6)), newcomer], at, seconds=15)
    assert newcomer.waited is not None
    assert newcomer.waited <= 3 * PACE


def test_who_waits_for_an_answer_waits_for_the_pace_two_intervals_at_most_beside_four_kinds_of_endless_work(
    at: At,
) -> None:
    endless = [Process(f"job {number}") for number in range(3)] + [Process("harvest") for _ in range(6)]
    readers = [Process("reader", urgent=True, once_at=moment) for moment in (2.1, 3.3, 4.7, 4.71, 8.05, 12.6)]
    slots = run([*endless, *readers], at, seconds=20)
    assert [reader.waited for reader in readers if reader.waited is None] == []
    assert max(reader.waited or 0.0 for reader in readers) <= 3 * PACE
    assert len(slots) >= 20 / PACE


def test_endless_urgent_work_leaves_background_work_a_tenth_of_the_slots(at: At) -> None:
    slots = run([*(Process(f"reader {number}", urgent=True) for number in range(2)), Process("job")], at, seconds=40)
    assert len(slots) >= 40 / PACE
    assert Counter(slots)["job"] == pytest.approx(len(slots) / 10, abs=1)


def test_a_process_that_died_while_it_waited_costs_no_slot(at: At) -> None:
    for _ in range(2):
        ask("other", urgent=False)
    assert isinstance(ask("dead", urgent=False), timedelta)
    slots = run([Process("job")], at, seconds=20)
    assert len(slots) + 2 >= 20 / PACE


def test_a_pause_that_isbndb_requests_holds_for_who_waits_too() -> None:
    call = ask("reader", urgent=True)
    assert isinstance(call, DispatchedCall)
    reservations.slow_down(call, seconds=60)
    for urgent, near in ((True, 2 * PACE), (False, PACE)):
        answer = ask("reader", urgent=urgent)
        assert isinstance(answer, timedelta)
        assert answer.total_seconds() == pytest.approx(60 - near, abs=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("with_turns", [False, True], ids=["without the rule", "with the rule"])
def test_real_processes_take_turns_by_consumer(set_clock: SetClock, with_turns: bool) -> None:
    """At the real pace, so that a busy machine makes no process miss its turn."""
    DailyLedger.objects.update(daily_limit=1036, safety_buffer=1000)
    set_clock(NOON)
    for slug in ("many", "one"):
        Consumer.objects.create(slug=slug)
    with nullcontext() if with_turns else changed_function("quota_take_slot", *ANYBODY):
        subprocess.run(
            [sys.executable, "-m", "tests.quota.endless", *["many"] * 6, "one"],
            env=processes.environment(),
            timeout=180,
            check=True,
        )
    calls = Counter(Call.objects.values_list("consumer__slug", flat=True))
    assert calls.total() == 36
    assert (jain(calls.values()) >= 0.95) is with_turns
