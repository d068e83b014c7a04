"""What happens when, from a seed: the same seed gives the same plan.

Four series of events run beside each other: kills of our processes, outages of PostgreSQL and Redis, moods of ISBNdb,
and midnights.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

TIMEOUT_SECONDS = 5
"""ISBNDB_TIMEOUT_SECONDS of the service."""

LAST_MOMENTS = 12.0
"""Seconds before midnight in which ISBNdb says that the daily limit is reached, and has no other mood."""

SECONDS_OF_A_DAY = 300.0
"""A long plan has a midnight so often."""

MAX_SECONDS_TO_MIDNIGHT = 40.0
"""The clocks jump to so long before midnight at most: by then nothing is under way that was sent before the jump."""

KILLS = ("web", "web child", "worker", "worker child", "jobs", "jobs child", "beat", "harvest")
"""A process of the Procfile or the command of the bulk harvest; `child`: one of the processes that it has forked."""

KILLS_AT_RANDOM = (*KILLS, "web child", "worker child", "worker child", "jobs child", "jobs child", "harvest")
"""What has calls under way is killed more often."""

OUTAGES = (
    "PostgreSQL stopped at once", "Redis killed", "PostgreSQL frozen", "Redis emptied", "PostgreSQL's session killed",
    "Redis frozen", "PostgreSQL killed",
)  # fmt: skip

Fault = dict[str, Any]

DAILY_LIMIT = "daily limit reached"
MIDNIGHT = "the clocks jump, and midnight comes"
TOO_FAST = {"message": "Per minute quota exceeded"}
MOODS: dict[str, Fault] = {
    "429 with Retry-After": {"kind": "status", "status": 429, "headers": {"Retry-After": "3"}, "body": TOO_FAST},
    "500": {"kind": "status", "status": 500},
    "hangs": {"kind": "latency", "seconds": TIMEOUT_SECONDS + 2},
    "cut in the middle": {"kind": "truncate"},
    "slow": {"kind": "latency", "seconds": 1.5},
    "closed after the work": {"kind": "drop_before_answer"},
    "429 that does not say why": {"kind": "status", "status": 429, "body": {"message": "Limit Exceeded"}},
    "closed without an answer": {"kind": "drop"},
    "no JSON": {"kind": "garbage"},
    "drips": {"kind": "drip", "seconds": 2.0},
}
"""The faults of the sandbox. Each meets a few requests, or all of them while it lasts."""


@dataclass(frozen=True)
class Event:
    """Something that happens `at` so many seconds after the start, and lasts for `seconds`.

    `series`: "kill", "outage", "mood" or "midnight". `what`: one of KILLS, OUTAGES or MOODS, DAILY_LIMIT or MIDNIGHT.
    `choice`: a number from 0 to 1 that says which of several processes. `times`: a mood ends after so many
    requests; None: all that come meet it.
    """

    at: float
    series: str
    what: str
    seconds: float = 0.0
    choice: float = 0.0
    times: int | None = None

    def __str__(self) -> str:
        return f"{self.series}: {self.what}" + (f" for {self.seconds:.1f} s" if self.seconds else "")


@dataclass(frozen=True)
class Plan:
    """`events`: in the order of their times."""

    seed: int
    seconds: float
    events: Sequence[Event]

    def of(self, series: str) -> list[Event]:
        return [event for event in self.events if event.series == series]


def make_plan(seed: int, *, kills: int, seconds: float) -> Plan:
    """The plan of a run of so many seconds: `kills` kills, and a fifth as many outages and moods, but each once."""
    random = Random(seed)
    midnights = list(_midnights(random, seconds))
    events = [
        *midnights,
        *_kills(random, kills, seconds),
        *_outages(random, max(kills // 5, len(OUTAGES)), seconds),
        *_moods(random, max(kills // 5, len(MOODS)), seconds, [event.at + event.seconds for event in midnights]),
    ]
    return Plan(seed, seconds, sorted(events, key=lambda event: event.at))


def _midnights(random: Random, seconds: float) -> Iterator[Event]:
    count = max(1, round(seconds / SECONDS_OF_A_DAY))
    day = seconds / count
    for number in range(count):
        midnight = day * (number + random.uniform(0.5, 0.6))
        at = max(0.0, midnight - MAX_SECONDS_TO_MIDNIGHT)
        yield Event(at, "midnight", MIDNIGHT, seconds=midnight - at)


def _kills(random: Random, count: int, seconds: float) -> Iterator[Event]:
    times = sorted(random.uniform(0, seconds) for _ in range(count))
    for at, what in zip(times, _each_once(random, KILLS, KILLS_AT_RANDOM, count), strict=True):
        yield Event(at, "kill", what, choice=random.random())


def _outages(random: Random, count: int, seconds: float) -> Iterator[Event]:
    slot = seconds / count
    for number, what in enumerate(_each_once(random, OUTAGES, OUTAGES, count)):
        lasts = 0.0 if what in {"Redis emptied", "PostgreSQL's session killed"} else random.uniform(0.5, slot / 2)
        at = slot * (number + random.uniform(0, 0.4))
        yield Event(at, "outage", what, seconds=min(lasts, 6.0), choice=random.random())


def _moods(random: Random, count: int, seconds: float, midnights: Sequence[float]) -> Iterator[Event]:
    slot = seconds / count
    for number, what in enumerate(_each_once(random, tuple(MOODS), tuple(MOODS), count)):
        at, lasts = slot * (number + random.uniform(0, 0.1)), random.uniform(0.6, 0.9) * slot
        times = None if what == "slow" else random.randint(1, 4)
        if not any(at < midnight <= at + lasts + LAST_MOMENTS for midnight in midnights):
            yield Event(at, "mood", what, seconds=lasts, times=times)
    for midnight in midnights:
        yield Event(midnight - LAST_MOMENTS, "mood", DAILY_LIMIT, seconds=LAST_MOMENTS - 4.0)


def _each_once(random: Random, once: Sequence[str], then: Sequence[str], count: int) -> list[str]:
    """So many of them, in a random order: first each of `once`, as far as `count` reaches, then some of `then`."""
    chosen = random.sample(once, min(count, len(once)))
    return chosen + random.choices(then, k=count - len(chosen))
