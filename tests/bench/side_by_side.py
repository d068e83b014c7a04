"""The quota next to other ways to share a number of calls between processes.

16 processes race for 500 calls with 800 attempts, with each way in turn, in several rounds. Printed for each way: its
decisions a second next to ours in the same round, and in all rounds together

- over-grants: calls that were granted beyond the 500;
- false refusals: attempts that were refused before the last of the 500 calls was granted, or while one was left;
- lost counts: calls that were granted and that the store does not count.

`python -m tests.bench.side_by_side`. It ends with 1 when ours has one of these.
"""

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

from tests.bench.scratch import scratch_database  # isort: skip (first: it sets Django up)

import limits
import redis
from django.db import connection, models, transaction
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter
from psycopg_pool import ConnectionPool
from pyrate_limiter import Duration, Limiter, PostgresBucket, Rate, RedisBucket

from alexandria.development.embedded import servers
from quota.exceptions import QuotaRefused
from quota.models import Call, Consumer, ConsumerUsage, DailyLedger, Refusal, Reservation
from quota.prices import RequestKind
from quota.services import reservations

CALLS, PROCESSES, ATTEMPTS, ROUNDS = 500, 16, 50, 5
KEY = "bench:side-by-side"

Take = Callable[[], bool]
"""Asks for one call. Whether it is granted."""


class Counter(models.Model):
    """A counter as a Django application has it."""

    used = models.IntegerField(default=0)
    objects: models.Manager["Counter"] = models.Manager()

    class Meta:
        app_label = "bench"

    def __str__(self) -> str:
        return f"{self.used} used"


@dataclass
class Way:
    begin: Callable[[], None]
    """Puts the count to 0."""
    connect: Callable[[], Take]
    """In each process."""
    counted: Callable[[], int]


def redis_url() -> str:
    return os.environ.get("REDIS_URL") or servers.redis_url()


# --- Alexandria: limits, floors, budgets, pace, reservation and journal in one statement


def begin_alexandria() -> None:
    for model in (Refusal, Call, Reservation, ConsumerUsage, DailyLedger):
        model.objects.all().delete()
    reservations.open_ledger()
    DailyLedger.objects.update(daily_limit=CALLS + 1, safety_buffer=1, max_rps=1_000_000)  # no dispatch waits


def take_alexandria() -> bool:
    try:
        reservations.reserve_and_dispatch(
            consumer="bench", operation="bench", calls=1, kind=RequestKind.PAGE, method="GET", path="/book/x"
        )
    except QuotaRefused:
        return False
    return True


# --- Django: a row with a counter


def begin_django() -> None:
    Counter.objects.update_or_create(pk=1, defaults={"used": 0})


def take_with_lock() -> bool:
    with transaction.atomic():
        counter = Counter.objects.select_for_update().get(pk=1)
        if counter.used >= CALLS:
            return False
        counter.used += 1
        counter.save()
    return True


def take_without_lock() -> bool:
    counter = Counter.objects.get(pk=1)
    if counter.used >= CALLS:
        return False
    counter.used += 1
    counter.save()
    return True


# --- PyrateLimiter


def rates() -> list[Rate]:
    return [Rate(CALLS, Duration.DAY)]


def postgres_bucket() -> PostgresBucket:
    params = connection.get_connection_params()
    kept = {name: params[name] for name in ("host", "port", "user", "password", "dbname") if params.get(name)}
    return PostgresBucket(ConnectionPool(kwargs=kept, min_size=1, max_size=1, open=True), "bench", rates())


def redis_bucket() -> RedisBucket:
    bucket = RedisBucket.init(rates(), redis.Redis.from_url(redis_url()), KEY)
    assert isinstance(bucket, RedisBucket)
    return bucket


def take_from(bucket: PostgresBucket | RedisBucket) -> Take:
    limiter = Limiter(bucket)
    return lambda: bool(limiter.try_acquire("bench", blocking=False))


@contextmanager
def closing(bucket: PostgresBucket | RedisBucket) -> Iterator[Any]:
    try:
        yield bucket
    finally:
        bucket.close()


def flush(make: Callable[[], PostgresBucket | RedisBucket]) -> None:
    with closing(make()) as bucket:
        bucket.flush()


def count(make: Callable[[], PostgresBucket | RedisBucket]) -> int:
    with closing(make()) as bucket:
        return int(bucket.count())


# --- limits

DAY = limits.RateLimitItemPerDay(CALLS)


def strategy() -> FixedWindowRateLimiter:
    return FixedWindowRateLimiter(RedisStorage(redis_url().replace("unix://", "redis+unix://")))


def connect_limits() -> Take:
    limiter = strategy()
    return lambda: limiter.hit(DAY, KEY)


WAYS = {
    "Alexandria": Way(begin_alexandria, lambda: take_alexandria, lambda: DailyLedger.objects.get().used),
    "Django, select_for_update and save": Way(
        begin_django, lambda: take_with_lock, lambda: Counter.objects.get(pk=1).used
    ),
    "Django, get and save": Way(begin_django, lambda: take_without_lock, lambda: Counter.objects.get(pk=1).used),
    "PyrateLimiter on PostgreSQL": Way(
        lambda: flush(postgres_bucket), lambda: take_from(postgres_bucket()), lambda: count(postgres_bucket)
    ),
    "PyrateLimiter on Redis": Way(
        lambda: flush(redis_bucket), lambda: take_from(redis_bucket()), lambda: count(redis_bucket)
    ),
    "limits on Redis": Way(
        lambda: strategy().clear(DAY, KEY),
        connect_limits,
        lambda: CALLS - strategy().get_window_stats(DAY, KEY).remaining,
    ),
}


@dataclass
class Race:
    rate: float
    """Decisions a second."""
    over_granted: int
    refused_falsely: int
    lost: int


def racer(way: Way, start: Barrier, results: Connection) -> None:
    take = way.connect()
    attempts = []
    start.wait()
    for _ in range(ATTEMPTS):
        began = time.monotonic()
        granted = take()
        attempts.append((began, time.monotonic(), granted))
    results.send(attempts)


def race(way: Way) -> Race:
    way.begin()
    connection.close()  # not to be shared with the children
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(PROCESSES, timeout=120)
    pipes = [fork.Pipe(duplex=False) for _ in range(PROCESSES)]
    processes = [fork.Process(target=racer, args=(way, start, pipe[1])) for pipe in pipes]
    for process in processes:
        process.start()
    attempts = [attempt for pipe in pipes for attempt in pipe[0].recv()]
    for process in processes:
        process.join()
    took = max(end for _, end, _ in attempts) - min(begin for begin, _, _ in attempts)
    granted = sorted((end, begin) for begin, end, ok in attempts if ok)
    last = granted[CALLS - 1][1] if len(granted) >= CALLS else float("inf")  # when the last call was still free
    falsely = sum(1 for _, end, ok in attempts if not ok and end < last)
    return Race(len(attempts) / took, max(0, len(granted) - CALLS), falsely, len(granted) - way.counted())


def run() -> bool:
    """Prints the table; False when ours has granted too much or too little."""
    with scratch_database():
        servers.start_unless_configured()
        Consumer.objects.create(slug="bench")
        with connection.schema_editor() as editor:
            editor.create_model(Counter)
        races: dict[str, list[Race]] = {name: [] for name in WAYS}
        for _ in range(ROUNDS):
            for name, way in WAYS.items():
                races[name].append(race(way))
        with connection.schema_editor() as editor:
            editor.delete_model(Counter)
        redis.Redis.from_url(redis_url()).delete(KEY)
    ours = races["Alexandria"]
    print(f"\n{PROCESSES} processes, {PROCESSES * ATTEMPTS} attempts, {CALLS} calls, {ROUNDS} rounds:")
    print(
        f"{'':36} {'a second':>9} {'next to ours':>13} {'over-grants':>12} {'false refusals':>15} {'lost counts':>12}"
    )
    for name, found in races.items():
        ratio = statistics.median(one.rate / own.rate for one, own in zip(found, ours, strict=True))
        print(
            f"{name:36} {statistics.median(one.rate for one in found):9,.0f} {ratio:13.2f}"
            f" {sum(one.over_granted for one in found):12,} {sum(one.refused_falsely for one in found):15,}"
            f" {sum(one.lost for one in found):12,}"
        )
    return not any(one.over_granted or one.refused_falsely or one.lost for one in ours)


if __name__ == "__main__":
    sys.exit(0 if run() else 1)
