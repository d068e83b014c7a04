"""A real HTTP server with the endpoints that a bulk harvest needs. Its jobs go on when somebody looks at them."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

KEY = "key-of-the-double"
RESET = "2026-05-06T00:00:00Z"
UNDER_WAY = {"queued", "running", "waiting"}

Answer = tuple[int, Any]


@dataclass
class JobDouble:
    """A job. `authors`: as /authors shows them."""

    wanted: dict[str, Any]
    authors: list[dict[str, Any]]
    key: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: str = "queued"
    stopped_reason: str | None = None
    error: str = ""
    resume_at: str | None = None


class ServerDouble:
    """`books`: the number of books of each known author. `left`: remaining calls of today. `broken`: authors that fail.

    `failures`: (status, body, headers) of the next answers about jobs; status 0 closes the connection. `allowance`: the
    answer of /api/quota/me; None: all remaining calls are free. `asked`: (author, page) in order. `speed`: pages that a
    job gets on with at each look.
    """

    def __init__(self, books: dict[str, int], *, left: int = 1000) -> None:
        self.books = books
        self.left = left
        self.speed = 2
        self.broken: set[str] = set()
        self.allowance: dict[str, Any] | None = None
        self.failures: list[tuple[int, dict[str, Any], dict[str, str]]] = []
        self.asked: list[tuple[str, int]] = []
        self.jobs: list[JobDouble] = []
        self.requests: list[str] = []
        self.url = ""

    def status(self) -> dict[str, Any]:
        used = 13_000 - self.left
        return {
            "daily_limit": 15_000,
            "safety_limit": 13_000,
            "used": used,
            "reserved": 0,
            "remaining": self.left,
            "reset_at": RESET,
            "percentage_used": used // 130,
            "can_make_calls": self.left > 0,
        }

    def answer(  # noqa: PLR0911 (one for each endpoint)
        self, method: str, path: str, query: dict[str, str], body: Any, key: str
    ) -> Answer:
        if path == "/api/quota/me":
            return 200, self.allowance or {"free": self.left, "limited_by": "safety_limit"}
        if path == "/api/quota/forecast":  # a call a second
            return 200, {"finish_at": f"2026-05-05T12:00:{int(query['calls']):02}Z"}
        if path == "/api/quota/status":
            return 200, self.status()
        if path == "/api/authors/top":
            ranked = sorted(self.books, key=lambda name: -self.books[name])
            return 200, {"results": [{"id": 1, "name": name} for name in ranked[: int(query["limit"])]]}
        if path == "/api/authors/bulk-harvest":
            return self.create(body, key)
        if path == "/api/jobs":
            assert query["kind"] == "authors"
            wanted = query.get("list_key")
            found = [job for job in reversed(self.jobs) if wanted in {None, job.wanted["list_key"]}]
            return 200, {"next": None, "results": [self.shown(job) for job in found]}
        _, _, _, job_id, *rest = path.split("/")
        job = next(job for job in self.jobs if job.id == job_id)
        if rest == ["authors"]:
            states = {query["state"]} if "state" in query else {"pending", "done", "unknown", "cut", "failed"}
            begin = int(query.get("begin", 0))
            rows = [author for author in job.authors if author["state"] in states]
            more = f"{self.url}{path}?begin={begin + 2}" if len(rows) > begin + 2 else None
            return 200, {"next": more, "results": rows[begin : begin + 2]}
        if method == "POST":
            return self.change(job, rest[0])
        for _ in range(self.speed):
            self.step(job)
        return 200, self.shown(job)

    def create(self, body: dict[str, Any], key: str) -> Answer:
        same = [job for job in self.jobs if job.wanted["list_key"] == body["list_key"]]
        for job in same:
            if job.key == key:
                return 202, self.shown(job)
        if same and not (body["again"] and same[-1].state in {"succeeded", "failed", "cancelled"}):
            code = "already_finished" if same[-1].state == "succeeded" else "already_begun"
            return 409, {"code": code, "detail": "This list was finished on 2026-05-05 12:00 UTC.", "job": same[-1].id}
        figures = dict.fromkeys(
            ["pages", "found", "new", "changed", "unchanged", "already_fresh", "failed", "calls"], 0
        )
        authors = [
            {"position": position, "name": name, "state": "pending", "reason": "", **figures}
            for position, name in enumerate(body["authors"], start=1)
        ]
        self.jobs.append(JobDouble(body, authors, key))
        return 202, self.shown(self.jobs[-1])

    def change(self, job: JobDouble, how: str) -> Answer:
        state, allowed = {
            "pause": ("paused", UNDER_WAY),
            "resume": ("queued", {"paused"}),
            "retry": ("queued", {"failed", "cancelled", "succeeded"}),
            "cancel": ("cancelled", {*UNDER_WAY, "paused"}),
        }[how]
        failed = [author for author in job.authors if author["state"] == "failed"]
        if job.state not in allowed or (how == "retry" and job.state == "succeeded" and not failed):
            return 409, {"code": "conflict", "detail": "Not now."}
        if how == "retry":
            for author in failed:
                author["state"] = "pending"
        job.state, job.stopped_reason, job.error = state, None, ""
        return 202, self.shown(job)

    def step(self, job: JobDouble) -> None:
        """Fetches a page."""
        if job.state not in UNDER_WAY:
            return
        author = next((author for author in job.authors if author["state"] == "pending"), None)
        if author is None:
            job.state = "succeeded"
        elif not self.left:
            waits = job.wanted["on_exhausted"] == "wait"
            job.state, job.resume_at = ("waiting", RESET) if waits else ("failed", None)
            job.stopped_reason, job.error = "safety_limit", "No call is left."
        else:
            job.state = "running"
            self.fetch(author, job.wanted["max_pages"])

    def fetch(self, author: dict[str, Any], max_pages: int) -> None:
        name, page = author["name"], author["pages"] + 1
        self.asked.append((name, page))
        self.left -= 1
        author["calls"] += 1
        if name in self.broken:
            author |= {"state": "failed", "reason": "isbndb_failed"}
            return
        books = self.books.get(name, 0)
        on_page = max(0, min(1000, books - 1000 * (page - 1)))
        author |= {"pages": page, "found": author["found"] + on_page, "new": author["new"] + on_page}
        if books <= 1000 * page:
            author["state"] = "done" if books else "unknown"
        elif page == max_pages:
            author |= {"state": "cut", "reason": "max_pages"}

    def shown(self, job: JobDouble) -> dict[str, Any]:
        states = [author["state"] for author in job.authors]
        sums = {name: sum(author[name] for author in job.authors) for name in (
            "found", "new", "changed", "unchanged", "already_fresh", "failed")}  # fmt: skip
        counts = {f"authors_{name}": states.count(name) for name in ("pending", "done", "unknown", "cut", "failed")}
        return {
            "id": job.id, "kind": "authors", "label": job.wanted["label"], "list_key": job.wanted["list_key"],
            "state": job.state, "stopped_reason": job.stopped_reason, "error": job.error, "resume_at": job.resume_at,
            "progress": {"done": len(states) - states.count("pending"), "total": len(states)},
            "api_calls": sum(author["calls"] for author in job.authors),
            "failures": {"by_reason": {"isbndb_failed": states.count("failed")} if "failed" in states else {}},
            "figures": {"authors": len(states), **counts, **sums},
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self._answer("GET", None)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self._answer("POST", json.loads(self.rfile.read(length) or "null"))

    def _answer(self, method: str, body: Any) -> None:
        double, headers = self.server.double, {}
        parts = urlsplit(self.path)
        if self.headers["Authorization"] != f"Api-Key {KEY}":
            status, content = 401, {"code": "not_authenticated", "detail": "No valid key."}
        elif double.failures and not parts.path.startswith("/api/quota/"):
            status, content, headers = double.failures.pop(0)
        else:
            if parts.path == "/api/authors/bulk-harvest":
                assert self.headers["Prefer"] == "respond-async"
            double.requests.append(f"{method} {parts.path}")
            key = self.headers["Idempotency-Key"] or ""
            status, content = double.answer(method, parts.path, dict(parse_qsl(parts.query)), body, key)
        if not status:
            self.close_connection = True
            return
        text = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: Any) -> None:
        """Logs nothing."""


@contextmanager
def serving(double: ServerDouble) -> Iterator[ServerDouble]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.double = double  # type: ignore[attr-defined]
    double.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
