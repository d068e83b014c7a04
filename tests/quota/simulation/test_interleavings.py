"""Every order of the steps of two and three processes, on the model that PostgreSQL agrees with (`test_simulation.py`).

Each statement of the quota is one step, because it holds the lock of the day (`test_interleavings_in_postgresql.py`).
What a process does outside the database are steps too: to send a request, and to die. ISBNdb counts what arrives, by
its own clock.

Then the same with a step that is not atomic, or in the wrong order: the checker must find what that breaks, and say
how.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import combinations_with_replacement
from typing import Any
from unittest.mock import patch

import pytest

from tests.quota.simulation import model
from tests.quota.simulation.interleavings import Actor, Explored, Memory, Over, Step, explore
from tests.quota.simulation.model import Answer, Consumer, Limits, Quota, Reservation

NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 5, 6, tzinfo=UTC)
LEASE = timedelta(minutes=2)
SAFETY_LIMIT = 4


@dataclass
class World:
    quota: Quota
    skew: timedelta = timedelta()  # how far ISBNdb's clock is ahead of ours
    sent: dict[date, int] = field(default_factory=dict)  # what ISBNdb counts of ours
    foreign: dict[date, int] = field(default_factory=dict)  # and of others

    def isbndb_counts(self, calls: int, *, at: datetime | None = None, by: str = "sent") -> None:
        """`at`: when the request arrives; None: now."""
        day = ((at or self.quota.now) + self.skew).date()
        counts: dict[date, int] = getattr(self, by)
        counts[day] = counts.get(day, 0) + calls


def world(now: datetime = NOON, **options: Any) -> World:
    consumers = {"reader": Consumer(), "cron": Consumer(kind="cron", floor=1), "external": Consumer()}
    quota = Quota(now, Limits(SAFETY_LIMIT + 3, 3), consumers, batch_price="isbn")
    quota.open_day()
    return World(quota, **options)


# --- The steps. Each function is one statement of the quota, or one thing that happens outside it.


def granted(answer: Answer) -> Answer:
    if answer[0] != "granted":
        raise Over(" ".join(map(str, answer[:2])))
    return answer


def reserve_and_dispatch(
    calls: int = 0, kind: str = "page", isbns: int | None = None, consumer: str = "reader"
) -> Step:
    def run(at: World, mine: Memory) -> str:
        _, reserved, price, _ = granted(at.quota.reserve(consumer, calls, LEASE, kind=kind, isbns=isbns))
        mine.update(number=len(at.quota.reservations) - 1, call=len(at.quota.journal) - 1, price=price)
        return f"{reserved} reserved, {price} of them spent"

    return Step("reserves and dispatches", run)


def dispatch(kind: str = "page", isbns: int | None = None) -> Step:
    def run(at: World, mine: Memory) -> str:
        _, price, _ = granted(at.quota.dispatch(mine["number"], kind, isbns, LEASE))
        mine.update(call=len(at.quota.journal) - 1, price=price)
        return f"{price} spent"

    return Step("dispatches", run)


def _send(at: World, mine: Memory) -> str:
    """As `DispatchedCall.claim` does: it waits for the send time, and looks at the clock once more."""
    call = at.quota.journal[mine["call"]]
    moment = max(at.quota.now, call.send_at)
    if moment >= model.end_of_sending(call.day):
        return "too close to midnight, not sent"
    at.isbndb_counts(mine["price"], at=moment)
    return f"ISBNdb counts {mine['price']} more"


def _extend(at: World, mine: Memory) -> str:
    granted(at.quota.extend(mine["number"], 1, LEASE))
    return "1 more reserved"


def _shrink(at: World, mine: Memory) -> str:
    return f"{at.quota.shrink(mine['number'], 0)[1]} go back"


def _settle(at: World, mine: Memory) -> str:
    return f"{at.quota.settle(mine['number'])[1]} go back"


def _expire(at: World, _: Memory) -> str:
    return f"{at.quota.expire()[1]} reservations closed"


def _close_day(at: World, mine: Memory) -> str:
    at.quota.close_day(mine["call"])
    return "ISBNdb has said that its day is over"


def _reopen(at: World, _: Memory) -> str:
    return str(at.quota.reopen()[0])


def _spend_elsewhere(at: World, _: Memory) -> str:
    at.isbndb_counts(1, by="foreign")
    return "ISBNdb counts 1 more"


def _answer(at: World, mine: Memory) -> str:
    """ISBNdb counts the question and answers with its count. Nobody knows yet what the answer will meet here."""
    _send(at, mine)
    today = (at.quota.now + at.skew).date()
    mine["spent"] = at.sent.get(today, 0) + at.foreign.get(today, 0)
    mine["answered"] = len(at.quota.journal)
    return f"ISBNdb's count is {mine['spent']}"


def _reconcile(at: World, mine: Memory) -> str:
    answer = at.quota.reconcile(mine["call"], mine["spent"], at.quota.configured.daily_limit, mine["answered"])
    return " ".join(map(str, answer[:2]))


def _lower_limits(at: World, _: Memory) -> str:
    at.quota.configured = Limits(5, 3)
    at.quota.apply_limits()
    return "the limit of today is lower"


def time_passes(step: timedelta) -> Step:
    def run(at: World, _: Memory) -> str:
        at.quota.now += step
        return f"it is {at.quota.now:%d %H:%M:%S}"

    return Step("goes on", run)


SEND, EXTEND, SHRINK, SETTLE = (
    Step("sends", _send),
    Step("extends", _extend),
    Step("shrinks", _shrink),
    Step("settles", _settle),
)
EXPIRE, CLOSE = Step("expires leases", _expire), Step("closes the day", _close_day)
ANSWER, RECONCILE = Step("asks ISBNdb's counter", _answer), Step("reconciles", _reconcile)

ACTORS = {
    "one request": [reserve_and_dispatch(), SEND, SETTLE],
    "a batch": [reserve_and_dispatch(kind="batch", isbns=3), SEND, SETTLE],
    "a list": [reserve_and_dispatch(calls=3), SEND, SHRINK, SETTLE],
    "a retry": [reserve_and_dispatch(), SEND, EXTEND, dispatch(), SEND, SETTLE],
    "a cron": [reserve_and_dispatch(calls=2, consumer="cron"), SEND, dispatch(), SEND, SETTLE],
    "the end of the day": [reserve_and_dispatch(), SEND, CLOSE, SETTLE, Step("opens the day again", _reopen)],
    "a reconciliation": [reserve_and_dispatch(kind="key"), ANSWER, RECONCILE, SETTLE],
    "another program": [Step("spends at ISBNdb", _spend_elsewhere)],
    "a person": [Step("lowers the limits", _lower_limits)],
    "the clock": [time_passes(LEASE), EXPIRE],
}
PROCESSES = {"one request", "a batch", "a list", "a retry", "a cron", "the end of the day", "a reconciliation"}


# --- The rules


def broken(at: World) -> list[str]:
    """What may never be: the guarantees 1, 3, 5 and 6 of docs/guarantees.md."""
    found = at.quota.wrongs()
    for when, day in at.quota.days.items():
        limit = max(SAFETY_LIMIT, day.limits.safety_limit)
        external = sum(call.calls for call in at.quota.journal if call.day == when and call.reservation is None)
        questions = sum(call.calls for call in at.quota.journal if call.day == when and call.kind == "key")
        if day.total - external - questions > limit:
            found.append(f"{day.total} calls are used or reserved, and the limit is {limit}")
    for when, counted in at.sent.items():
        day_here = at.quota.days.get(when)
        ours = sum(day_here.used.values()) if day_here else 0
        if counted > ours:
            found.append(f"ISBNdb counts {counted} calls of ours on {when:%d %B}, and we count {ours}")
    return found


def left_behind(at: World) -> list[str]:
    """What may not be when all is over and every lease has run out: guarantee 4."""
    at.quota.now += 2 * LEASE
    at.quota.expire()
    held = sum(sum(day.reserved.values()) for day in at.quota.days.values())
    return [f"{held} calls are still reserved"] if held else broken(at)


def run(at: World, *names: str, **changed: list[Step]) -> Explored:
    programs = ACTORS | {name.replace("_", " "): steps for name, steps in changed.items()}
    actors = [
        Actor(f"{letter} ({name})", programs[name], may_die=name in PROCESSES)
        for letter, name in zip("ABC", names, strict=False)
    ]
    return explore(at, actors, always=broken, in_the_end=left_behind)


@pytest.mark.no_cover
def test_no_order_of_the_steps_of_two_actors_breaks_a_guarantee_even_if_one_dies() -> None:
    for names in combinations_with_replacement(ACTORS, 2):
        assert run(world(), *names).wrong == [], names


THREES = [
    ("one request", "a batch", "a list"),
    ("a list", "a retry", "the clock"),
    ("a cron", "a batch", "the clock"),
    ("a retry", "the end of the day", "a person"),
    ("a reconciliation", "one request", "another program"),
    ("a reconciliation", "the end of the day", "another program"),
]


@pytest.mark.no_cover
def test_no_order_of_the_steps_of_three_actors_breaks_a_guarantee_even_if_one_dies() -> None:
    every = list(combinations_with_replacement(ACTORS, 3))  # 90 seconds
    for names in every if os.environ.get("ORDERS") == "all" else THREES:
        explored = run(world(), *names)
        assert explored.wrong == [], f"{names}: {explored}"
        assert explored.ends > 0


@pytest.mark.parametrize("skew", [timedelta(seconds=-1.9), timedelta(), timedelta(seconds=1.9)], ids=str)
def test_a_request_near_midnight_counts_on_the_same_day_here_and_at_isbndb(skew: timedelta) -> None:
    """ISBNdb's clock differs from ours by a little less than the guard of midnight."""
    explored = run(world(MIDNIGHT - timedelta(seconds=3), skew=skew), "a retry", "the clock", the_clock=TICKS)
    assert explored.wrong == [], str(explored)


TICKS = [time_passes(timedelta(seconds=1)) for _ in range(6)]


# --- The checker itself: each of these steps is not atomic, or in the wrong order


def test_a_reservation_that_reads_and_then_writes_overruns_the_limit_and_the_history_says_how() -> None:
    """As Alexandria's predecessor did."""

    def read(at: World, mine: Memory) -> str:
        mine["left"] = SAFETY_LIMIT - at.quota.days[at.quota.today].total
        return f"{mine['left']} are left"

    def write(at: World, mine: Memory) -> str:
        if mine["left"] < 3:
            raise Over("too few are left")
        at.quota.days[at.quota.today].post("reader", reserved=3)
        at.quota.reservations.append(Reservation("reader", at.quota.today, 3, at.quota.now + LEASE))
        return "3 reserved"

    explored = run(world(), "a list", "a list", a_list=[Step("reads", read), Step("reserves", write)])
    assert str(explored) == (
        "Broken after 4 steps: 6 calls are used or reserved, and the limit is 4.\n"
        "  1. A (a list) reads: 4 are left\n"
        "  2. B (a list) reads: 4 are left\n"
        "  3. A (a list) reserves: 3 reserved\n"
        "  4. B (a list) reserves: 3 reserved"
    )


def test_a_request_that_is_counted_after_it_was_sent_is_lost_with_its_process() -> None:
    """As Alexandria's predecessor did, too."""

    def send_first(at: World, mine: Memory) -> str:
        at.isbndb_counts(1)
        return "ISBNdb counts 1 more"

    explored = run(world(), "one request", one_request=[Step("sends", send_first), reserve_and_dispatch(), SETTLE])
    assert explored.wrong == ["ISBNdb counts 1 calls of ours on 05 May, and we count 0"]
    assert explored.history == ["A (one request) sends: ISBNdb counts 1 more"]


def _in_two(reads: str, write: Callable[[World, Memory, int], str]) -> list[Step]:
    """A step that first reads how many calls a reservation has left, and then writes what follows from that."""

    def read(at: World, mine: Memory) -> str:
        mine["left"] = at.quota.reservations[mine["number"]].left
        return f"{mine['left']} left"

    def run_it(at: World, mine: Memory) -> str:
        return write(at, mine, mine["left"])

    return [Step(f"{reads}: reads", read), Step(f"{reads}: writes", run_it)]


def _give_back(at: World, mine: Memory, left: int) -> str:
    reservation = at.quota.reservations[mine["number"]]
    at.quota.days[reservation.day].post(reservation.consumer, reserved=-left)
    reservation.state = "settled"
    return f"{left} go back"


def test_calls_go_back_twice_if_a_settlement_does_not_hold_the_lock() -> None:
    explored = run(
        world(), "a list", "the clock", a_list=[reserve_and_dispatch(calls=3), *_in_two("settles", _give_back)]
    )
    assert "reserved by reader is below 0" in explored.wrong
    assert [line for line in explored.history if "settles" in line or "expires" in line] == [
        "A (a list) settles: reads: 2 left",
        "B (the clock) expires leases: 1 reservations closed",
        "A (a list) settles: writes: 2 go back",
    ]


def _take_figure(at: World, mine: Memory) -> str:
    mine["ours"] = sum(at.quota.days[at.quota.today].used.values())
    return f"our count is {mine['ours']}"


def _raise_to(at: World, mine: Memory) -> str:
    if (raised := mine["spent"] - mine["ours"]) > 0:
        at.quota.increment(raised)
    return f"raised by {raised}"


def test_drift_is_raised_twice_if_a_reconciliation_does_not_hold_the_lock() -> None:
    raised_twice = [reserve_and_dispatch(kind="key"), ANSWER, Step("reads", _take_figure), Step("raises", _raise_to)]

    def too_high(at: World) -> list[str]:
        ours = sum(at.quota.days[at.quota.today].used.values())
        theirs = at.sent[NOON.date()] + at.foreign[NOON.date()]
        return [f"our count is {ours}, ISBNdb's {theirs}"] if ours > theirs else []

    actors = [Actor(name, raised_twice) for name in "AB"]
    at_noon = world()
    at_noon.isbndb_counts(2, by="foreign")
    explored = explore(at_noon, actors, always=lambda _: [], in_the_end=too_high)
    assert explored.wrong == ["our count is 6, ISBNdb's 4"]
    right = [*raised_twice[:2], RECONCILE]
    actors = [Actor(name, right) for name in "AB"]
    assert explore(at_noon, actors, always=lambda _: [], in_the_end=too_high).wrong == []


@pytest.mark.parametrize("skew", [timedelta(seconds=-1.9), timedelta(seconds=1.9)], ids=str)
def test_without_the_guard_of_midnight_a_request_counts_on_another_day_at_isbndb(skew: timedelta) -> None:
    begin = MIDNIGHT - timedelta(seconds=3)
    with patch.object(model, "GUARD", timedelta()):
        explored = run(world(begin, skew=skew), "a retry", "the clock", the_clock=TICKS)
    assert explored.wrong[0].startswith("ISBNdb counts 1 calls of ours on 0")


def test_a_process_that_dies_keeps_its_calls_reserved_if_nobody_expires_leases() -> None:
    explored = explore(
        world(),
        [Actor("A", ACTORS["a list"], may_die=True)],
        always=broken,
        in_the_end=lambda at: (
            [f"{held} are reserved"] if (held := sum(at.quota.days[NOON.date()].reserved.values())) else []
        ),
    )
    assert explored.wrong == ["2 are reserved"]
    assert explored.history[-1] == "A dies"
