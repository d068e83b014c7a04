"""Gunicorn's threaded worker, made safe against clients that send or read slowly.

As it is, an unfinished head holds a thread for ever, and a client that does not close its connection holds all of a
worker for two seconds. Here a thread gets a request when its head and a small body have come, all clients together
wait on one selector, and a client that is too slow for what is left loses its connection. The probes have threads of
their own, so they answer when all others are busy. TLS is the proxy's.
"""

import errno
import re
import socket
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.http.message import Request
from gunicorn.workers.gthread import TConn, ThreadWorker

MAX_SECONDS = 10.0
"""For a head and a small body; and in which a thread waits for a client, beside what MIN_BYTES_PER_SECOND allows."""
MIN_BYTES_PER_SECOND = 20_000
MAX_HEAD = 64 * 1024
SMALL_BODY = 64 * 1024
"""Bytes of a body that is read before a thread is used. The views refuse a longer one without a key or a session."""
MAX_CONNECTIONS = 500
"""Of a worker. When there are more, the one that has waited longest without a whole request is closed."""
LINGER_SECONDS = 2.0
"""How long an answered connection stays open for reading, so that its client can read the whole answer (RFC 9112)."""
MAX_LINGER_BYTES = 256 * 1024

PROBES: dict[bytes, str] = {b"/livez": "live", b"/readyz": "ready", b"/healthz": "ready", b"/metrics": "ready"}
"""Path -> the threads that answer it."""
PROBE_THREADS = {"live": 1, "ready": 4}

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect[ \t]*:", re.IGNORECASE)


class PatientSocket(socket.socket):
    """The socket of a client. Its patience, in seconds, ends when the client is slower than MIN_BYTES_PER_SECOND."""

    patience = 0.0

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Of a body. A head has come as a whole, so nothing comes while it is parsed."""
        if not self.patience:
            return b""
        data: bytes = self._timed(self.patience, lambda: super(PatientSocket, self).recv(size, flags), len)
        return data

    def sendall(self, data: Any, flags: int = 0) -> None:
        seconds = max(self.patience, 1.0) + len(data) / MIN_BYTES_PER_SECOND
        self._timed(seconds, lambda: super(PatientSocket, self).sendall(data, flags), lambda _: len(data))

    def recv_now(self) -> bytes | None:
        """What has come; None: nothing yet; b"": the client has gone."""
        self.settimeout(0)
        try:
            return super().recv(SMALL_BODY)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _timed(self, seconds: float, act: Callable[[], Any], size: Callable[[Any], int]) -> Any:
        self.settimeout(seconds)
        began = time.monotonic()
        try:
            result = act()
        except TimeoutError as error:
            raise ConnectionResetError(errno.ECONNRESET, "The client is too slow.") from error
        earned = size(result) / MIN_BYTES_PER_SECOND - (time.monotonic() - began)
        self.patience = min(MAX_SECONDS, max(self.patience + earned, 0.001))
        return result


class Incoming:
    """The bytes of a request while they come."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.wanted = 0
        """Bytes of the head and of a small body; 0: not known yet."""
        self.told = False

    def add(self, data: bytes) -> None:
        searched = max(0, len(self.data) - 3)
        self.data += data
        if self.wanted:
            return
        while self.data.startswith(b"\r\n"):
            del self.data[:2]
            searched = 0
        if (end := self.data.find(b"\r\n\r\n", searched)) >= 0:
            length = _LENGTH.search(self.data, 0, end + 2)
            body = int(length[1]) if length else 0
            self.wanted = end + 4 + (body if body <= SMALL_BODY else 0)

    @property
    def is_complete(self) -> bool:
        return 0 < self.wanted <= len(self.data)

    @property
    def is_too_large(self) -> bool:
        return not self.wanted and len(self.data) > MAX_HEAD

    def waits_for_continue(self) -> bool:
        """Whether the client sends its body only when it is told to. True once."""
        waits = not self.told and len(self.data) < self.wanted and _EXPECTS.search(self.data) is not None
        self.told |= waits
        return waits

    @property
    def path(self) -> bytes:
        return bytes(self.data[: self.data.find(b"\r\n")]).partition(b" ")[2].partition(b" ")[0].partition(b"?")[0]


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """See the module. `enqueue_req` gets each connection that is new, or kept alive and readable again."""

    def init_process(self) -> None:
        self.lingering: deque[TConn] = deque()
        self.probe_pools = {name: ThreadPoolExecutor(threads) for name, threads in PROBE_THREADS.items()}
        super().init_process()

    def enqueue_req(self, conn: TConn) -> None:
        if not conn.initialized:
            conn.sock = PatientSocket(fileno=conn.sock.detach())
            conn.init()
        conn.sock.settimeout(0)
        conn.sock.patience = 0.0
        conn.timeout = time.monotonic() + MAX_SECONDS
        conn.incoming = Incoming()
        self._make_room()
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))
        if begun := conn.parser.unreader.take_buffered():
            self._receive(conn, begun)

    def on_pending_socket_readable(self, conn: TConn, client: Any) -> None:
        if data := conn.sock.recv_now():
            self._receive(conn, data)
        elif data is not None:
            self._stop_waiting(conn, self.pending_conns)
            self._close(conn)

    def handle_request(self, req: Request, conn: TConn) -> Any:
        conn.sock.patience = MAX_SECONDS
        if _unread(req) > SMALL_BODY:
            req.force_close()  # nobody reads the rest of a body that is refused
        return super().handle_request(req, conn)

    def finish_request(self, conn: TConn, fs: "Future[Any]") -> None:
        if fs.cancelled() or fs.exception() or not fs.result():
            self._linger(conn)
        else:
            super().finish_request(conn, fs)

    def murder_pending(self) -> None:
        super().murder_pending()
        while self.lingering and self.lingering[0].timeout < time.monotonic():
            self._close(self._stop_waiting(self.lingering[0], self.lingering))

    def _receive(self, conn: TConn, data: bytes) -> None:
        incoming = conn.incoming
        incoming.add(data)
        if incoming.is_complete:
            self._stop_waiting(conn, self.pending_conns)
            self._answer(conn)
        elif incoming.is_too_large:
            self._stop_waiting(conn, self.pending_conns)
            _send_now(conn, _TOO_LARGE)
            self._linger(conn)
        elif incoming.waits_for_continue():
            _send_now(conn, _CONTINUE)

    def _answer(self, conn: TConn) -> None:
        conn.parser.unreader.unread(bytes(conn.incoming.data))
        pool = self.probe_pools[PROBES[path]] if (path := conn.incoming.path) in PROBES else self.tpool
        done = pool.submit(self.handle, conn)
        done.add_done_callback(lambda future: self.method_queue.defer(self.finish_request, conn, future))

    def _linger(self, conn: TConn) -> None:
        """Closes a connection when its client has done so, or after LINGER_SECONDS. Nobody waits for that."""
        conn.timeout, conn.drained = time.monotonic() + LINGER_SECONDS, 0
        try:
            conn.sock.settimeout(0)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, EVENT_READ, partial(self._drain, conn))
        except (OSError, ValueError):
            self._close(conn)
            return
        self.lingering.append(conn)

    def _drain(self, conn: TConn, client: Any) -> None:
        if (data := conn.sock.recv_now()) is None:
            return
        conn.drained += len(data)
        if not data or conn.drained > MAX_LINGER_BYTES:
            self._close(self._stop_waiting(conn, self.lingering))

    def _make_room(self) -> None:
        while self.nr_conns >= self.worker_connections:
            waiting = next((each for each in (self.lingering, self.keepalived_conns, self.pending_conns) if each), None)
            if waiting is None:
                return
            self._close(self._stop_waiting(waiting[0], waiting))

    def _stop_waiting(self, conn: TConn, waiting: "deque[TConn]") -> TConn:
        waiting.remove(conn)
        with suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)
        return conn

    def _close(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()


def _unread(req: Request) -> int:
    """Bytes of the body; more than any limit for a body in chunks."""
    return getattr(req.body.reader, "length", SMALL_BODY + 1)


def _send_now(conn: TConn, data: bytes) -> None:
    with suppress(OSError):
        conn.sock.send(data)
