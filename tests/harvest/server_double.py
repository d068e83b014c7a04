"""A real HTTP server with the endpoints that a bulk harvest needs. It fails as a test demands."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

KEY = "key-of-the-double"
RESET = "2026-05-06T00:00:00Z"


class ServerDouble:
    """`books`: the number of books of each known author. `left`: remaining calls of today. `failures`: (status, body,
    headers) of the next answers to requests that spend; status 0 closes the connection. `allowance`: the answer of
    /api/quota/me; None: all remaining calls are free. `asked`: (author, page) in order."""

    def __init__(self, books: dict[str, int], *, left: int = 1000) -> None:
        self.books = books
        self.left = left
        self.retry_after = 40_000
        self.allowance: dict[str, Any] | None = None
        self.failures: list[tuple[int, dict[str, Any], dict[str, str]]] = []
        self.asked: list[tuple[str, int]] = []
        self.sources: set[str] = set()
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

    def enrich(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        if self.failures:
            return self.failures.pop(0)
        if not self.left:
            problem = {"code": "quota_exhausted", "detail": "1 call requested, 0 free.", "limit": "safety_limit"}
            return 429, problem | {"retry_at": RESET}, {"Retry-After": str(self.retry_after)}
        name, page = body["author_name"], body["start_page"]
        assert (body["max_pages"], body["skip_existing"]) == (1, True)
        self.asked.append((name, page))
        self.sources.add(body["source"])
        self.left -= 1
        on_page = max(0, min(1000, self.books.get(name, 0) - 1000 * (page - 1)))
        complete = self.books.get(name, 0) <= 1000 * page
        return 200, {
            "author": name, "books_found": on_page, "already_existed": 0, "enriched": on_page, "failed": 0,
            "pages_fetched": 1, "api_calls": 1, "complete": complete,
            "stopped_reason": None if complete else "max_pages", "next_page": None if complete else page + 1,
            "errors": [], "duration_ms": 1, "quota": self.status(),
        }, {}  # fmt: skip

    def top(self, query: str) -> tuple[int, Any, dict[str, str]]:
        limit = int(query.removeprefix("limit="))
        assert limit <= 20_000
        ranked = sorted(self.books, key=lambda name: -self.books[name])
        return 200, [{"id": 1, "name": name} for name in ranked[:limit]], {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        double = self.server.double
        if path == "/api/authors/top":
            self._answer(*double.top(query))
        elif path == "/api/quota/me":
            self._answer(200, double.allowance or {"free": double.left, "limited_by": "safety_limit"}, {})
        else:
            self._answer(200, double.status(), {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(*self.server.double.enrich(body))

    def _answer(self, status: int, body: Any, headers: dict[str, str]) -> None:
        if self.headers["Authorization"] != f"Api-Key {KEY}":
            status, body = 401, {"code": "not_authenticated", "detail": "No valid key."}
        if not status:
            self.close_connection = True
            return
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

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
