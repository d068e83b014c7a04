"""No client can hold the threads of the web server, and its probes need none of them."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from alexandria import web_worker
from alexandria.monitoring import health
from alexandria.web_worker import Incoming, PatientSocket
from tests import processes

HOST = b"Host: localhost\r\n"
FORM = b"POST /admin/login/ HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n" + HOST
LARGE_FILE = b"/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
ONCE = b"GET /livez HTTP/1.1\r\n" + HOST


@pytest.fixture(scope="module")
def port(tmp_path_factory) -> Iterator[int]:
    """A real web process with two workers of two threads. It has no database: what is asked here needs none."""
    number = processes.unused_port()
    log: Path = tmp_path_factory.mktemp("web") / "log"
    nowhere = {"DATABASE_URL": "postgres://nobody@127.0.0.1:1/nothing", "REDIS_URL": "redis://127.0.0.1:1/0"}
    server = processes.start("web", log, PORT=str(number), WEB_CONCURRENCY="2", WEB_THREADS="2", **nowhere)
    try:
        processes.wait_until(lambda: answers(number), server, log=log)
        yield number
        assert "Traceback" not in log.read_text()
    finally:
        processes.kill(server)


def answers(port: int) -> bool:
    try:
        return bool(httpx2.get(f"http://localhost:{port}/livez").status_code == 200)
    except httpx2.TransportError:
        return False


def sent(port: int, data: bytes, *, buffer: int = 0) -> socket.socket:
    """A connection to the server on which this was sent."""
    client = socket.socket()
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(60)
    client.connect(("127.0.0.1", port))
    client.sendall(data)
    return client


def received(client: socket.socket, until: bytes) -> bytes:
    data = b""
    while until not in data and (more := client.recv(65536)):
        data += more
    return data


@contextmanager
def held(port: int, data: bytes, *, buffer: int = 0) -> Iterator[list[socket.socket]]:
    """64 connections, many times more than there are threads, which send this and then nothing."""
    with ExitStack() as stack:
        yield [stack.enter_context(sent(port, data, buffer=buffer)) for _ in range(64)]


def is_open(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize(
    "unfinished",
    [
        b"",
        b"GET / HTTP/1.1\r\n" + HOST,
        b"\r\n\r\n",
        FORM + b"Content-Length: 9000\r\n\r\nusername=",
        FORM + b"Content-Length: 9000\r\nExpect: 100-continue\r\n\r\n",
        ONCE + b"\r\n" + ONCE,
    ],
    ids=["nothing", "head", "empty lines", "body", "continue", "second head"],
)
def test_a_request_that_does_not_end_holds_no_thread(unfinished: bytes, port: int) -> None:
    with held(port, unfinished) as clients:
        assert httpx2.get(f"http://localhost:{port}/api/nothing", timeout=60).status_code == 401
        assert all(map(is_open, clients))


@pytest.mark.slow
def test_a_client_that_does_not_close_its_connection_holds_nothing(port: int) -> None:
    """Stock gunicorn waits for each of them for two seconds, and serves nobody meanwhile."""
    with held(port, ONCE + b"Connection: close\r\n\r\n") as clients:
        assert all(received(client, b"ok").startswith(b"HTTP/1.1 200") for client in clients)
        began = time.monotonic()
        httpx2.get(f"http://localhost:{port}/livez", timeout=60)
        one = time.monotonic() - began
    assert one < len(clients)  # seconds: half of what each client alone would take


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_answer_while_every_thread_is_busy(path: str, port: int) -> None:
    with held(port, b"GET " + LARGE_FILE + b" HTTP/1.1\r\n" + HOST + b"\r\n", buffer=2048) as clients:
        status = httpx2.get(f"http://localhost:{port}{path}", timeout=60).status_code
        assert status == (200 if path == "/livez" else 503)  # there is no database
        unanswered = [client for client in clients if is_open(client)]
        assert len(unanswered) >= 60


def test_every_probe_has_threads_of_its_own() -> None:
    assert {path.decode() for path in web_worker.PROBES} == set(health.ANSWERS)


@pytest.mark.slow
def test_a_body_that_is_refused_unread_ends_its_connection(port: int) -> None:
    head = (
        b"POST /api/nothing HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n" + HOST + b"\r\n"
    )
    with sent(port, head) as client:
        answer = received(client, b"request_id")
        assert answer.startswith(b"HTTP/1.1 401")
        assert b"Connection: close" in answer
        assert received(client, b"never") is not None  # until the end of the connection


@pytest.mark.slow
def test_a_connection_is_used_again_also_for_requests_that_come_early(port: int) -> None:
    with httpx2.Client(base_url=f"http://localhost:{port}", timeout=60) as client:
        bodies = ["x" * size for size in (0, 10, 60_000)]
        assert [client.post("/api/nothing", content=body).status_code for body in bodies] == [401, 401, 401]
    with sent(port, (ONCE + b"\r\n") * 3 + ONCE + b"Connection: close\r\n\r\n") as client:
        assert received(client, b"never").count(b"HTTP/1.1 200 OK") == 4


@pytest.mark.slow
def test_a_head_that_is_too_long_is_refused(port: int) -> None:
    with sent(port, b"GET / HTTP/1.1\r\nX: " + b"x" * (web_worker.MAX_HEAD + 10_000)) as client:
        assert received(client, b"never").startswith(b"HTTP/1.1 431")


@pytest.fixture
def pair() -> Iterator[tuple[PatientSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with PatientSocket(fileno=ours.detach()) as server, theirs:
        yield server, theirs


def _send_much(server: PatientSocket) -> None:
    server.sendall(b"x" * 10_000_000)


@pytest.mark.parametrize("act", [lambda server: server.recv(10), _send_much])
def test_a_client_that_is_too_slow_loses_its_connection(act: Callable, pair, monkeypatch) -> None:
    monkeypatch.setattr(web_worker, "MIN_BYTES_PER_SECOND", 10**9)
    server, _ = pair
    server.patience = 0.01
    with pytest.raises(ConnectionResetError, match="too slow"):
        act(server)


def test_what_comes_fast_enough_keeps_the_patience_up(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    server, client = pair
    server.patience = before = 5.0
    client.sendall(b"x" * 20_000)
    while server.recv(1000) and server.patience < before:
        client.sendall(b"x" * 1000)
    assert before <= server.patience <= web_worker.MAX_SECONDS


def test_while_a_head_is_parsed_nothing_is_waited_for(pair) -> None:
    server, _ = pair
    assert server.recv(10) == b""


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_request_is_complete_with_its_head_and_its_small_body(size: int) -> None:
    request = b"\r\n" + FORM + b"Content-Length: 4\r\n\r\nabcd"
    incoming = Incoming()
    for at in range(0, len(request), size):
        assert not incoming.is_complete
        incoming.add(request[at : at + size])
    assert incoming.is_complete
    assert incoming.path == b"/admin/login/"


def test_a_large_body_does_not_wait_outside_the_threads() -> None:
    incoming = Incoming()
    incoming.add(FORM + b"content-LENGTH : 900000\r\n\r\n")
    assert incoming.is_complete
