"""Exchanging bytes with ISBNdb: one request, one answer. Nothing here talks to the database.

The contract is ISBNdb's OpenAPI file, https://isbndb.com/isbndb-api-documentation-v2.
"""

import math
import time
from functools import lru_cache
from threading import Lock
from typing import Any

import httpx2
from django.conf import settings

from alexandria.common.http import DeadlineTransport
from enrichment.gateway.replies import Reply

MAX_CONNECT_SECONDS = 5.0  # until there is a connection, including the wait for a free one
MAX_ANSWER_BYTES = 16 * 1024 * 1024  # ISBNdb's own limit is 6 MB
CONNECTION_ERRORS = (
    httpx2.ConnectTimeout,  # with this and the next, nothing was sent
    httpx2.PoolTimeout,
    httpx2.NetworkError,
    httpx2.RemoteProtocolError,
    httpx2.ProxyError,
)
_MAKING_CLIENT = Lock()
_written_at = -math.inf  # when the newest request of this process was written, on the monotonic clock


def new_request(method: str, path: str, **content: Any) -> httpx2.Request:
    """Builds a request to a path of ISBNdb, with the client's headers. `content`: `params` or `json`."""
    return _client().build_request(method, f"{settings.ISBNDB_BASE_URL}{path}", **content)


def wait_for_turn(gap: float) -> None:
    """Waits until `gap` seconds after the newest request was written.

    A thread can be late by some hundredths of a second, while another one decodes and stores books. The requests after
    it then have to be late too: otherwise the first of four could come so late that all four arrive within a second.
    """
    time.sleep(max(0.0, _written_at + gap - time.monotonic()))


def exchange(request: httpx2.Request, send_before: float) -> Reply:
    """Sends one request and reads the whole answer within ISBNDB_TIMEOUT_SECONDS; see alexandria/common/http.py.

    There must be a connection before `send_before` (on the monotonic clock), the end of the call's day. ISBNdb would
    charge a later request to the next day.
    """
    started = time.monotonic()
    deadline = started + settings.ISBNDB_TIMEOUT_SECONDS
    connect_by = min(deadline, started + MAX_CONNECT_SECONDS, send_before)
    request.headers["Authorization"] = settings.ISBNDB_API_KEY
    request.extensions["timeout"] = {
        "pool": max(0.001, connect_by - started),
        "connect": connect_by,
        "read": deadline,
        "write": deadline,
    }
    request.extensions["trace"] = _note_written
    reply = _client().send(request, stream=True, follow_redirects=False)
    try:
        body = bytearray()
        for chunk in reply.iter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise httpx2.ReadError(f"the answer has more than {MAX_ANSWER_BYTES} bytes", request=request)
    finally:
        reply.close()
    return Reply(reply.status_code, reply.headers, bytes(body))


def _note_written(event: str, info: object) -> None:
    global _written_at  # noqa: PLW0603 (one for the process, as its connections)
    if event == "http11.send_request_body.complete":
        _written_at = time.monotonic()


def close_connections() -> None:
    """Closes the process's connections to ISBNdb. The next request opens new ones."""
    _client().close()
    _make_client.cache_clear()


def _client() -> httpx2.Client:
    """The process's connection pool. Its threads share it."""
    with _MAKING_CLIENT:  # otherwise threads that start together would each make one
        return _make_client()


@lru_cache(maxsize=1)
def _make_client() -> httpx2.Client:
    return httpx2.Client(headers={"User-Agent": "alexandria"}, trust_env=False, transport=DeadlineTransport())
