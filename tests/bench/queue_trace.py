"""Many small requests by many clients: what they cost through the queue in simulated time, and one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count, groupby
from math import ceil
from random import Random

from alexandria.development.sandbox import isbns
from enrichment.models import QueuedIsbn
from enrichment.services.queue import enqueue
from enrichment.services.queue_flush import flush
from quota.models import Call
from tests.fixtures import NOON, stop_database_clock

CLIENTS = 50
TICK = 5  # seconds between two flushes
REPEATED = 0.2  # share of requests that repeat an earlier one of the same client
POPULAR = 0.5  # share of ISBNs that many clients want; the n-th most popular is wanted 1/n as often as the first
HOUR = 3600


@dataclass(frozen=True)
class Request:
    """Up to ten ISBNs that a client queues, `second` seconds after noon."""

    second: int
    client: int
    isbns: list[str]
    priority: QueuedIsbn.Priority


@dataclass(frozen=True)
class Outcome:
    """The cost of a trace through the queue."""

    calls: int
    asked: int
    found: int

    @property
    def books_a_call(self) -> float:
        return self.found / self.calls


def make_trace(
    requests: int, *, seconds: int, catalogue: int, first_slot: int = 7_000, high: float = 0
) -> list[Request]:
    """Requests for 1 to 10 of `catalogue` ISBNs, spread over `seconds`. The same arguments give the same trace.

    The sandbox does not know a twelfth of the catalogue. `high`: the share of requests with high priority. Of the
    others, a quarter has low priority.
    """
    random = Random(1)
    before: list[list[list[str]]] = [[] for _ in range(CLIENTS)]

    def pick() -> str:
        number = int(catalogue ** random.random()) if random.random() < POPULAR else random.randrange(catalogue)
        return isbns.isbn13_at(first_slot + number // isbns.SLOT_SIZE, number % isbns.SLOT_SIZE)

    trace = []
    for number in range(requests):
        client = random.randrange(CLIENTS)
        mine = before[client]
        if mine and random.random() < REPEATED:
            wanted = random.choice(mine)
        else:
            wanted = [pick() for _ in range(random.randint(1, 10))]
            mine.append(wanted)
        usual = QueuedIsbn.Priority.LOW if random.random() < 0.25 else QueuedIsbn.Priority.NORMAL
        priority = QueuedIsbn.Priority.HIGH if random.random() < high else usual
        trace.append(Request(number * seconds // requests, client, wanted, priority))
    return trace


def distinct(trace: Sequence[Request]) -> int:
    """The number of distinct ISBNs."""
    return len({isbn for request in trace for isbn in request.isbns})


def min_calls(trace: Sequence[Request], size: int) -> int:
    """The minimum: every ISBN once, in full batches."""
    return ceil(distinct(trace) / size)


def naive_calls(trace: Sequence[Request]) -> int:
    """What batch-direct would spend: one call for each request with an ISBN that is neither stored nor missed yet."""
    known: set[str] = set()
    calls = 0
    for request in trace:
        calls += not known.issuperset(request.isbns)
        known.update(request.isbns)
    return calls


def run_trace(trace: Sequence[Request], *, consumer: str, start: datetime = NOON) -> Outcome:
    """Sends the trace through the queue until nothing waits. Sets the database's clock to each second of it.

    It takes up to three hours of the database's day, from `start` on.
    """
    already_spent = Call.objects.count()
    for second, requests in _seconds(trace):
        stop_database_clock(start + timedelta(seconds=second))
        for request in requests:
            enqueue(request.isbns, priority=request.priority, consumer=consumer, source=f"client {request.client}")
        if second % TICK == 0:
            flush()
    for tick in count(trace[-1].second + TICK, TICK):
        if not QueuedIsbn.objects.exists():
            break
        # No more requests come. After two minutes only low priorities wait, so the clock jumps by an hour.
        stop_database_clock(start + timedelta(seconds=tick if tick < trace[-1].second + 2 * 60 else tick + HOUR))
        flush()
    calls = list(Call.objects.order_by("pk").values_list("isbns_asked", "isbns_found"))[already_spent:]
    return Outcome(len(calls), sum(asked or 0 for asked, _ in calls), sum(found or 0 for _, found in calls))


def _seconds(trace: Sequence[Request]) -> Iterator[tuple[int, list[Request]]]:
    """Every second of the trace with its requests, if any."""
    by_second = {second: list(requests) for second, requests in groupby(trace, lambda request: request.second)}
    for second in range(trace[-1].second + 1):
        yield second, by_second.get(second, [])
