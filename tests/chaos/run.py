"""One run: it starts the service, breaks it as planned, waits until it is at rest, and judges."""

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from random import Random

import httpx2
from django.core.management import CommandError, call_command
from django.db import connection

from alexandria.common.publishing import publish
from alexandria.development.sandbox.server import Sandbox
from enrichment.models import Edition, Job, QueuedIsbn
from harvest.models import HarvestRun
from harvest.schedules import TASK
from quota.models import Consumer, ConsumerKey
from quota.selectors.status import get_status
from tests import processes
from tests.chaos.fleet import Fleet
from tests.chaos.load import AUTHORS, Client, Promises
from tests.chaos.observer import Observer, from_database
from tests.chaos.outages import Servers
from tests.chaos.plan import DAILY_LIMIT, MOODS, Event, Plan
from tests.chaos.verdict import judge, not_quiet
from tests.fixtures import set_database_clock

CLIENTS = 4
AUTHORS_OF_A_HARVEST = 30
REPORT_SECONDS = 10.0
SECONDS_TO_START = 300.0
SECONDS_TO_WORK = 120.0
BEFORE_THE_START = timedelta(hours=1)
"""The first day begins so long before midnight."""
AFTER_EVERY_LEASE = timedelta(minutes=15)
SECONDS_WITHOUT_HURRY = 20.0
BY_HAND_SECONDS = 21.0
BY_HAND = ("reconciliation", "update-feed", "stale-refresh")
"""Crons that spend calls and seldom run by their schedules: here somebody also presses their button, in turn."""


class Failed(Exception):
    """The run cannot go on."""


class Run:
    def __init__(self, plan: Plan, folder: Path, watch: Callable[[int], None], *, patience: float, hurry: bool) -> None:
        self.plan, self.folder = plan, folder
        self.patience, self.hurry = patience, hurry
        self.began = time.monotonic()
        self.over = threading.Event()
        self.promises, self.observer, self.servers = Promises(), Observer(), Servers(folder)
        self.sandbox = Sandbox(max_rps=None, daily_limit=10**8, max_batch=1_000)
        self.port = processes.unused_port()
        os.environ["PORT"] = str(self.port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.logs = folder / "logs"
        self.watch = watch
        self.starts = 0
        self.harvests = 0
        self.failures: list[str] = []

    def say(self, text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - self.began:7.1f} s  {text}\n")
        sys.stdout.flush()

    def run(self) -> int:
        """The exit code: 0 when everything is as it must be."""
        counts = ", ".join(
            f"{len(self.plan.of(series))} {series}s" for series in ("kill", "outage", "mood", "midnight")
        )
        self.say(f"Seed {self.plan.seed}: {counts}, {self.plan.seconds:g} s. Logs: {self.logs}")
        with ExitStack() as stack:
            stack.enter_context(self.sandbox)
            os.environ["ISBNDB_BASE_URL"] = self.sandbox.url
            keys = self._prepare()
            self.fleet = Fleet(os.environ, logs=self.logs, watch=self.watch, say=self.say)
            stack.callback(self.fleet.stop)
            self.fleet.start()
            self._wait("the service works", lambda: self._works(keys[0]), SECONDS_TO_START)
            self._break(keys)
            wrong = self._rest(keys[0])
            self.fleet.stop()
            self.observer.stop()
            return self._judge(wrong)

    def _prepare(self) -> list[str]:
        """The database with its clock and consumers. Returns the keys of the clients."""
        self.logs.mkdir()
        with connection.cursor() as cursor:
            cursor.execute("ALTER SYSTEM SET fsync = off")  # a killed process loses nothing that it has written
            cursor.execute("SELECT pg_reload_conf()")
        call_command("migrate", verbosity=0)
        self._set_clocks(next_midnight(datetime.now(UTC)) - BEFORE_THE_START)
        consumers = [Consumer.objects.create(slug=f"client-{number}") for number in range(CLIENTS)]
        return [ConsumerKey.objects.create_key(name="chaos", consumer=consumer)[1] for consumer in consumers]

    def _set_clocks(self, moment: datetime) -> None:
        """Sets the clocks of the quota and of ISBNdb."""
        self.sandbox.set_clock(offset_seconds=from_database(lambda: set_database_clock(moment)).total_seconds())

    def _works(self, key: str) -> bool:
        """Whether web, worker, jobs and beat have all done something."""
        headers = {"Authorization": f"Api-Key {key}", "Prefer": "respond-async"}
        try:
            with httpx2.Client(base_url=self.url, timeout=30, headers=headers) as http:
                answer = http.post(
                    "/api/enrich/batch-direct",
                    json={"isbns": ["9780735211292"], "source": "start"},
                    headers={"Idempotency-Key": f"start {self.starts}"},
                )
        except httpx2.HTTPError:
            return False
        if answer.status_code not in {200, 202}:
            return False
        job = Job.objects.get(pk=answer.json()["id"])
        return (
            job.ended_at is not None
            and HarvestRun.objects.filter(cron="queue-flush", ended_at__gte=job.created_at).exists()
        )

    def _wait(self, what: str, holds: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not from_database(holds):
            if time.monotonic() > deadline:
                raise Failed(f"After {seconds:g} seconds it is not true that {what}. Logs: {self.logs}")
            time.sleep(0.5)

    # --- Chaos

    def _break(self, keys: Sequence[str]) -> None:
        """The load, and the events of the plan beside it."""
        self.observer.start()
        clients = [
            Client(number, seed=self.plan.seed, url=self.url, key=key, promises=self.promises, over=self.over)
            for number, key in enumerate(keys)
        ]
        happen = {"kill": self._kill, "outage": self._outage, "mood": self._mood, "midnight": self._midnight}
        series = [
            threading.Thread(target=self._play, args=(self.plan.of(name), happens), name=name, daemon=True)
            for name, happens in happen.items()
        ]
        self.began = time.monotonic()
        self._start_harvest()
        buttons = threading.Thread(target=self._press_buttons, name="buttons", daemon=True)
        for thread in (*clients, *series, buttons):
            thread.start()
        report_at = 0.0
        while any(thread.is_alive() for thread in series) or time.monotonic() < self.began + self.plan.seconds:
            if self.fleet.harvest_is_over():
                self._start_harvest()
            if time.monotonic() > report_at:
                report_at = time.monotonic() + REPORT_SECONDS
                self.say(from_database(self._progress))
            time.sleep(0.2)
        self.over.set()
        for client in clients:
            client.join()
        self.say("The load has ended.")

    def _press_buttons(self) -> None:
        for name in itertools.cycle(BY_HAND):
            if self.over.wait(BY_HAND_SECONDS):
                return
            publish(TASK, name, scheduled=False)

    def _start_harvest(self) -> None:
        self.harvests += 1
        names = Random(f"{self.plan.seed}: harvest {self.harvests}").sample(AUTHORS, AUTHORS_OF_A_HARVEST)
        path = self.folder / f"authors-{self.harvests}.txt"
        path.write_text("\n".join(names))
        self.fleet.start_harvest(path)

    def _play(self, events: Sequence[Event], happens: Callable[[Event], str]) -> None:
        for event in events:
            time.sleep(max(0.0, self.began + event.at - time.monotonic()))
            self.say(f"{event}")
            try:
                detail = happens(event)
            except Exception as error:  # noqa: BLE001 (a part of the verdict)
                self.failures.append(f"{event}: {error!r}")
                detail = repr(error)
            if detail:
                self.say(f"  {event.what}: {detail}")

    def _kill(self, event: Event) -> str:
        killed = self.fleet.kill(event.what, event.choice)
        self.observer.look()
        return killed

    def _outage(self, event: Event) -> str:
        self.servers.suffer(event)
        self.observer.look()
        return "over" if event.seconds else ""

    def _mood(self, event: Event) -> str:
        """Ends when so many requests have met it as the plan says, or when its time is over."""
        fault = {"kind": "daily_limit"} if event.what == DAILY_LIMIT else MOODS[event.what]
        before = len(self.sandbox.requests)
        until = time.monotonic() + event.seconds
        self.sandbox.add_fault(**fault, times=event.times)
        while self.sandbox.faults.list() and time.monotonic() < until:
            time.sleep(0.05)
        self.sandbox.clear_faults()
        return f"over after {len(self.sandbox.requests) - before} requests"

    def _midnight(self, event: Event) -> str:
        now = from_database(get_status).now
        self._set_clocks(next_midnight(now) - timedelta(seconds=event.seconds))
        time.sleep(event.seconds)
        return "it is midnight"

    def _progress(self) -> str:
        theirs, status = self.sandbox.spent, get_status()
        jobs, ended = Job.objects.count(), Job.objects.exclude(ended_at=None).count()
        return (
            f"… {status.now:%H:%M:%S}: {status.used} calls (ISBNdb: {theirs}), {status.reserved} reserved; "
            f"{Edition.objects.count()} books; {ended} of {jobs} jobs ended; {QueuedIsbn.objects.count()} queued; "
            f"answers {dict(self.promises.answers)}"
        )

    # --- Afterwards

    def _rest(self, key: str) -> list[str]:
        """Waits until nothing is under way, and everything works. Returns what is not so in the end."""
        began = time.monotonic()
        hurried = not self.hurry
        reported = began
        while left := self._left():
            now = time.monotonic()
            if now > began + self.patience:
                return [f"After {self.patience:g} seconds: {', '.join(left)}"]
            if not hurried and now > began + SECONDS_WITHOUT_HURRY:
                hurried = True
                self.say(f"The clock is set {AFTER_EVERY_LEASE} ahead. Left: {', '.join(left)}")
                self._set_clocks(get_status().now + AFTER_EVERY_LEASE)
            if now > reported + REPORT_SECONDS:
                reported = now
                self.say(f"Left: {', '.join(left)}")
            time.sleep(0.5)
        self.say(f"At rest after {time.monotonic() - began:.1f} s.")
        self.starts += 1  # another job
        try:
            self._wait("the service works", lambda: self._works(key), SECONDS_TO_WORK)
        except Failed as error:
            return [str(error)]
        self.say("Everything works again: web, worker, jobs and beat.")
        return []

    def _left(self) -> list[str]:
        left = from_database(not_quiet)
        return left if self.fleet.harvest_is_over() else [*left, "the bulk harvest is not over"]

    def _judge(self, wrong: Sequence[str]) -> int:
        verdict = judge(self.sandbox, self.promises, self.observer.on_their_way)
        verdict.say("Everything is at rest, and works, without a hand", wrong)
        verdict.say(f"Each of the {len(self.plan.events)} events has happened", self.failures)
        try:
            call_command("quota_status", "--check", stdout=StringIO())
            verdict.say("quota_status --check agrees")
        except CommandError as error:
            verdict.say("quota_status --check agrees", [error])
        for line in verdict.right:
            self.say(f"right: {line}")
        for line in verdict.wrong:
            self.say(f"WRONG: {line}")
        starts = ", ".join(f"{service.starts} {name}" for name, service in self.fleet.services.items())
        self.say(f"Starts: {starts}. Most requests in a second at ISBNdb: {self.sandbox.most_in_a_second}.")
        self.say(f"Seed {self.plan.seed}: {'FAILED' if verdict.wrong else 'passed'}. Logs: {self.logs}")
        return 1 if verdict.wrong else 0


def next_midnight(moment: datetime) -> datetime:
    return (moment + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
