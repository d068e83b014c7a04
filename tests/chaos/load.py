"""Clients of the API: they ask for books in every way, and keep what they were promised."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx2

from alexandria.development.sandbox import isbns, listings, vocabulary

FIRST_SLOT = 8_000
"""Each client has a slot of ISBNs of its own, from there on."""

MAX_BOOKS = 150

EXPECTED = {200, 202, 409, 429, 502, 503, 504}
"""Statuses of a service that works or says what does not. A list of authors that was asked for before is a 409."""

PAUSE = (0.2, 0.8)
"""Seconds between two requests of a client."""


AUTHORS = [name for name in vocabulary.AUTHORS if listings._size(name) < MAX_BOOKS]
"""Authors with a few books each: the work is many requests, and not much storing."""


@dataclass
class Promises:
    """What the answers have said: jobs that were accepted, ISBNs that were stored, and ISBNs that were queued."""

    jobs: set[str] = field(default_factory=set)
    stored: set[str] = field(default_factory=set)
    queued: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    """By status, or by the kind of failure."""
    unexpected: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Client(threading.Thread):
    """A client with a key of its own. It stops when `over` is set, after the request that is under way."""

    def __init__(
        self, number: int, *, seed: int, url: str, key: str, promises: Promises, over: threading.Event
    ) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self.random = Random(f"{seed}:{number}")
        self.number, self.promises, self.over = number, promises, over
        self.http = httpx2.Client(base_url=url, headers={"Authorization": f"Api-Key {key}"}, timeout=45)
        self.positions = 0
        self.jobs = 0
        self.works: list[Callable[[], None]] = [
            self.batch, self.batch, self.batch, self.queue, self.queue, self.job, self.bibliography, self.author_job,
            self.bibliography_job, self.look,
        ]  # fmt: skip

    def run(self) -> None:
        with self.http:
            while not self.over.wait(self.random.uniform(*PAUSE)):
                self.random.choice(self.works)()

    def batch(self) -> None:
        body = {"isbns": self.some_isbns(self.random.randint(1, 15)), "return": "items"}
        if answer := self.ask("/api/enrich/batch-direct", body, status=200):
            items = answer["items"]
            with self.promises.lock:
                self.promises.stored |= {
                    each["isbn13"] for each in items if each["state"] in {"enriched", "already_fresh"}
                }

    def queue(self) -> None:
        body = {"isbns": self.some_isbns(self.random.randint(1, 8)), "priority": self.random.choice(["high", "normal"])}
        if self.ask("/api/enrich/queue", body, status=202):
            with self.promises.lock:
                self.promises.queued |= set(body["isbns"])

    def job(self) -> None:
        self.start_job("/api/enrich/batch-direct", {"isbns": self.some_isbns(self.random.randint(20, 150))})

    def bibliography_job(self) -> None:
        self.start_job("/api/authors/enrich-bibliography", {"author_name": self.random.choice(AUTHORS)})

    def author_job(self) -> None:
        self.start_job("/api/authors/bulk-harvest", {"authors": self.random.sample(AUTHORS, 4)})

    def bibliography(self) -> None:
        self.ask("/api/authors/enrich-bibliography", {"author_name": self.random.choice(AUTHORS)}, status=200)

    def look(self) -> None:
        self.ask("/api/quota/status", None, status=200)

    def start_job(self, path: str, body: dict[str, Any]) -> None:
        """Repeats the request with its Idempotency-Key until there is an answer, or it is refused."""
        self.jobs += 1
        headers = {"Prefer": "respond-async", "Idempotency-Key": f"job {self.jobs}"}
        for _ in range(3):
            if answer := self.ask(path, {**body, "on_exhausted": "wait"}, status=202, headers=headers):
                with self.promises.lock:
                    self.promises.jobs.add(answer["id"])
                return
            if self.over.wait(self.random.uniform(*PAUSE)):
                return

    def some_isbns(self, count: int) -> list[str]:
        """The next ISBNs of this client. One in twelve is unknown, and some were asked for before."""
        found = []
        for _ in range(count):
            self.positions += 1
            position = self.random.randrange(self.positions) if self.random.random() < 0.1 else self.positions
            if position % 12 == 0:
                position = isbns.KNOWN_PER_SLOT + position // 12 % (isbns.SLOT_SIZE - isbns.KNOWN_PER_SLOT)
            found.append(isbns.isbn13_at(FIRST_SLOT + self.number, position))
        return found

    def ask(
        self, path: str, body: dict[str, Any] | None, *, status: int, headers: dict[str, str] | None = None
    ) -> dict[str, Any] | None:
        """The answer if it has that status; otherwise None."""
        try:
            response = self.http.request("GET" if body is None else "POST", path, json=body, headers=headers)
        except httpx2.HTTPError as error:
            self.note(type(error).__name__)
            return None
        self.note(str(response.status_code))
        if response.status_code not in EXPECTED:
            with self.promises.lock:
                self.promises.unexpected.append(f"{path}: {response.status_code} {response.text[:300]}")
        found: dict[str, Any] = response.json() if response.status_code == status else {}
        return found or None

    def note(self, what: str) -> None:
        with self.promises.lock:
            self.promises.answers[what] += 1
