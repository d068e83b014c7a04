"""All consumers at once over midnight, as real processes: two of web, two workers, beat and a bulk harvest.

When they all run, the clocks of the quota and of the sandbox are set to some minutes before midnight UTC. The day has
300 calls, and most are used. When the limit is reached, the clocks are set to the last seconds of the day. Midnight
passes, and everything continues by itself on the new day. Each part takes as long as the machine needs.
"""

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks

from alexandria.development.sandbox import isbns as sandbox_isbns
from alexandria.development.sandbox.server import Sandbox
from alexandria.env import BASE_DIR
from enrichment.models import Job, QueuedIsbn
from harvest.defaults import ensure_defaults
from harvest.models import HarvestRun
from quota.models import Call, Consumer, ConsumerKey, DailyLedger, Reservation
from quota.selectors.status import check_ledger
from quota.services import reservations
from tests import processes
from tests.fixtures import SetClock
from tests.processes import wait_until

pytestmark = pytest.mark.slow

MIDNIGHT = datetime(2026, 5, 6, tzinfo=UTC)
START = MIDNIGHT - timedelta(minutes=10)
LAST_SECONDS = MIDNIGHT - timedelta(seconds=10)
LIMIT = 300
USED_BEFORE = 230
SPENDERS = {"library", "bulk-author", "queue", "cron-reconciliation"}
MAX_RPS = 3
CLIENT_PAUSE_SECONDS = 0.5
"""Between two requests of a client. Without it, refused clients ask again at once, and keep all cores busy."""
MANAGE = [sys.executable, str(BASE_DIR / "manage.py")]


@pytest.fixture
def day(set_clock: SetClock, settings, tmp_path: Path) -> Iterator[Sandbox]:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER, settings.QUOTA_MAX_RPS = LIMIT, 0, MAX_RPS
    settings.ISBNDB_BATCH_SIZE = 20
    settings.ISBNDB_TIMEOUT_SECONDS = 60  # the longest: a busy machine may be slow
    settings.API_REQUESTS_PER_MINUTE = 0
    with Sandbox(max_rps=None, daily_limit=LIMIT, max_batch=20, batch_price="request") as sandbox:
        settings.ISBNDB_BASE_URL, settings.ISBNDB_API_KEY = sandbox.url, sandbox.key
        ensure_defaults()
        Consumer.objects.filter(kind__in=["cron", "bulk"]).update(floor=10)
        quickly, _ = IntervalSchedule.objects.get_or_create(every=4, period="seconds")
        PeriodicTask.objects.exclude(name__contains="celery").update(interval=quickly, crontab=None, enabled=False)
        yield sandbox


def set_clocks(sandbox: Sandbox, set_clock: SetClock, moment: datetime) -> None:
    sandbox.set_clock(offset_seconds=set_clock(moment).total_seconds())


def switch_crons(*, enabled: bool) -> None:
    PeriodicTask.objects.exclude(name__contains="celery").update(enabled=enabled)
    PeriodicTasks.update_changed()


def begin(sandbox: Sandbox, set_clock: SetClock) -> None:
    """Begins the end of the day."""
    set_clocks(sandbox, set_clock, START)
    reservations.increment(USED_BEFORE)
    sandbox.set_limits(spent=USED_BEFORE)
    switch_crons(enabled=True)


def nothing_is_left() -> bool:
    """Whether the day is used up, no call is under way, and the job waits. Only midnight can change that."""
    return (
        DailyLedger.objects.get().used == LIMIT
        and not Call.objects.filter(outcome=Call.Outcome.UNKNOWN).exists()
        and Job.objects.filter(state="waiting").exists()
    )


def new_day_is_worked_on(sandbox: Sandbox) -> bool:
    return (
        calls_that_arrived(sandbox)[MIDNIGHT.date()] > 20
        and Job.objects.get(kind=Job.Kind.BATCH_DIRECT).ended_at is not None
        and consumers_that_spent() >= SPENDERS
    )


def no_client_failed(done: list[Future[None]]) -> bool:
    """Raises the error of a client that has failed."""
    for client in done:
        if client.done():
            client.result()
    return True


def consumers_that_spent() -> set[str]:
    """The queue counts as one, although those who queue pay for it."""
    spent = Call.objects.values_list("consumer__slug", "operation")
    return {"queue" if operation == "queue" else consumer for consumer, operation in spent}


def calls_that_arrived(sandbox: Sandbox) -> Counter[date]:
    """The calls of the requests that reached ISBNdb on each day. A page of the feed is a request without a call."""
    calls: Counter[date] = Counter()
    for request in sandbox.requests:
        calls[datetime.fromtimestamp(request["at"], UTC).date()] += request["price"]
    return calls


@contextmanager
def process(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        running = subprocess.Popen(command, cwd=BASE_DIR, env=processes.environment(), stdout=output, stderr=output)
        try:
            yield running
        finally:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(30)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


class Client:
    """One of the clients of the API. It records the result of each of its requests."""

    def __init__(self, url: str, key: str) -> None:
        self.http = httpx2.Client(base_url=url, headers={"Authorization": f"Api-Key {key}"}, timeout=90)
        self.answers: list[tuple[int, dict[str, Any]]] = []

    def close(self) -> None:
        self.http.close()

    def ask(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> tuple[int, dict[str, Any]]:
        response = self.http.request("GET" if body is None else "POST", path, json=body, headers=headers)
        self.answers.append((response.status_code, response.json()))
        return self.answers[-1]


def fresh_isbns(slot: int, count: int) -> list[str]:
    return [sandbox_isbns.isbn13_at(slot, position) for position in range(count)]


def batches(client: Client, goes_on: Callable[[], bool]) -> None:
    for number in itertools.count():
        if not goes_on():
            return
        client.ask("/api/enrich/batch-direct", {"isbns": fresh_isbns(8_000 + number, 20), "source": "day"})


def bibliographies(client: Client, goes_on: Callable[[], bool]) -> None:
    for name in itertools.cycle(["Agatha Christie", "R.L. Stine", "William Shakespeare"]):
        if not goes_on():
            return
        client.ask("/api/authors/enrich-bibliography", {"author_name": name, "max_pages": 3})


def new_releases(client: Client, goes_on: Callable[[], bool]) -> None:
    body: dict[str, Any] = {"start_month": "2026-03", "end_month": "2026-05", "max_pages_per_month": 2}
    wanted = body
    while goes_on():
        _, answer = client.ask("/api/books/enrich-new-releases", wanted)
        wanted = {"resume": answer["resume"]} if answer.get("resume") else body


def queue_isbns(client: Client, goes_on: Callable[[], bool]) -> None:
    for number in itertools.count():
        if not goes_on():
            return
        client.ask("/api/enrich/queue", {"isbns": fresh_isbns(9_000 + number, 5), "priority": "high"})


def start_job(client: Client, goes_on: Callable[[], bool]) -> None:
    """When no call of the day is left: a job of 5 calls that waits for the next day."""
    while client.ask("/api/quota/status")[1]["remaining"]:
        assert goes_on()
        time.sleep(0.5)
    body = {"isbns": fresh_isbns(7_500, 100), "on_exhausted": "wait"}
    status, job = client.ask("/api/enrich/batch-direct", body, Prefer="respond-async")
    assert status == 202, job


@pytest.mark.no_cover
def test_all_consumers_at_once_over_midnight_keep_every_guarantee(
    day: Sandbox, set_clock: SetClock, tmp_path: Path
) -> None:
    port = processes.unused_port()
    consumer = Consumer.objects.create(slug="library")
    _, key = ConsumerKey.objects.create_key(name="day", consumer=consumer)
    authors = tmp_path / "authors.csv"
    authors.write_text("author_name\n" + "\n".join(f"Author Number {number}" for number in range(400)))

    celery = [sys.executable, "-m", "tests.alexandria.hasty", "--app", "alexandria", "--quiet"]
    worker = [*celery, "worker", "--loglevel", "INFO"]
    gunicorn = [sys.executable, "-m", "gunicorn", "alexandria.wsgi", "--bind", f"127.0.0.1:{port}"]
    web = [*gunicorn, "--workers", "2", "--worker-class", "gthread", "--threads", "8", "--no-control-socket"]
    harvest = [*MANAGE, "bulk_author_harvest", str(authors), "--max-pages", "2", "--wait"]
    with (
        process(tmp_path / "web.log", *web),
        process(tmp_path / "worker.log", *worker, "--concurrency", "2"),
        process(tmp_path / "jobs.log", *worker, "--concurrency", "1", "--queues", "jobs", "--hostname", "jobs@%h"),
        process(tmp_path / "beat.log", *celery, "beat", "--schedule", str(tmp_path / "beat")),
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(closing(Client(f"http://127.0.0.1:{port}", key))) for _ in range(5)]
        wait_until(lambda: answers(clients[0]))
        wait_until(lambda: all("ready." in (tmp_path / name).read_text() for name in ("worker.log", "jobs.log")))
        begin(day, set_clock)
        harvester = stack.enter_context(process(tmp_path / "harvest.log", *harvest))
        # A harvest that starts late finds no call left, and sleeps until midnight: it would miss the jump of the clock.
        wait_until(lambda: {"bulk-author", "cron-reconciliation"} <= consumers_that_spent())

        over = threading.Event()

        def goes_on() -> bool:
            return not over.wait(CLIENT_PAUSE_SECONDS)

        with ThreadPoolExecutor(5) as pool:
            works = [start_job, batches, bibliographies, new_releases, queue_isbns]
            done = [pool.submit(work, client, goes_on) for work, client in zip(works, clients, strict=True)]
            try:
                wait_until(lambda: no_client_failed(done) and nothing_is_left())
                switch_crons(enabled=False)  # no run may lose its lease because the clock jumps
                wait_until(lambda: not HarvestRun.objects.filter(outcome="running").exists())
                set_clocks(day, set_clock, LAST_SECONDS)
                switch_crons(enabled=True)
                wait_until(lambda: no_client_failed(done) and new_day_is_worked_on(day))
            finally:
                over.set()
                print(*DailyLedger.objects.values(), *Job.objects.values("kind", "state"), sep="\n")
            for each in done:
                each.result()
        assert harvester.poll() is None, (tmp_path / "harvest.log").read_text()[-2000:]
        harvester.send_signal(signal.SIGINT)
        assert harvester.wait(60) == 130
        PeriodicTask.objects.update(enabled=False)
    after_the_leases(set_clock)

    arrived = calls_that_arrived(day)
    ledgers = list(DailyLedger.objects.order_by("day"))
    assert [ledger.day for ledger in ledgers] == [START.date(), MIDNIGHT.date()]
    assert [ledger.used for ledger in ledgers] == [
        USED_BEFORE + arrived[START.date()],
        arrived[MIDNIGHT.date()],
    ]
    # Calls that were reserved at midnight were not sent.
    assert LIMIT - 5 <= ledgers[0].used <= LIMIT, "the limit of the day was reached and not exceeded"
    assert arrived[MIDNIGHT.date()] > 20, "work continued on the new day"
    assert [ledger.reserved for ledger in ledgers] == [0, 0]
    assert not Reservation.objects.filter(state="open").exists()
    assert [check_ledger(ledger.day) for ledger in ledgers] == [[], []]
    assert most_in_a_second([call.send_at.timestamp() for call in Call.objects.filter(calls=1)]) <= MAX_RPS
    assert consumers_that_spent() >= SPENDERS
    assert_every_operation_ended_or_says_where_it_stopped([answer for client in clients for answer in client.answers])


def answers(client: Client) -> bool:
    try:
        return client.ask("/api/quota/status")[0] == 200
    except httpx2.ConnectError:
        return False


def after_the_leases(set_clock: SetClock) -> None:
    set_clock(MIDNIGHT + timedelta(hours=1))
    reservations.expire()


def most_in_a_second(times: list[float]) -> int:
    times = sorted(times)
    return max(sum(1 for other in times[first : first + 50] if other - start < 1) for first, start in enumerate(times))


def assert_every_operation_ended_or_says_where_it_stopped(answers: list[tuple[int, dict[str, Any]]]) -> None:
    assert {status for status, _ in answers} <= {200, 202, 429, 503}
    for status, answer in answers:
        if status == 429 and answer["code"] != "too_many_at_once":  # the clients share a key
            assert answer["limit"] in {"safety_limit", "midnight", "day_closed"}
            assert answer["retry_at"]
        if answer.get("complete") is False:
            assert answer["stopped_reason"]
            assert answer.get("next_page") or answer.get("resume")
    assert any(status == 429 for status, _ in answers)
    job = Job.objects.get(kind=Job.Kind.BATCH_DIRECT)
    assert (job.state, job.done) == ("succeeded", 100)
    assert job.started_at
    assert job.ended_at
    assert job.started_at < MIDNIGHT < job.ended_at, "it waited for the new day"
    assert not QueuedIsbn.objects.filter(claim__isnull=False).exists()
    unfinished = HarvestRun.objects.filter(outcome__in=["running", "failed"])
    assert list(unfinished.values_list("cron", "outcome", "reason")) == []
    harvest = Job.objects.get(kind=Job.Kind.AUTHORS)
    assert harvest.state == "paused"
    assert harvest.authors.filter(state="pending").exists(), "--resume continues there"
