"""The faults of the sandbox, and how it handles connections."""

import json
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from alexandria.development.sandbox import Sandbox
from tests.alexandria.development.clients import THREE_ISBNS, connect
from tests.processes import wait_until


def test_a_fault_applies_to_its_number_of_requests_of_its_path(sandbox: Sandbox, client: httpx2.Client) -> None:
    rule = {"kind": "status", "status": 502, "times": 2, "path": "/book/", "body": "down"}
    client.post("/_sandbox/faults", json={**rule, "headers": {"Retry-After": "7"}})

    answers = [client.get("/key"), *(client.get("/book/9780441013593") for _ in range(3))]

    assert [answer.status_code for answer in answers] == [200, 502, 502, 200]
    assert (answers[1].text, answers[1].headers["Retry-After"]) == ("down", "7")
    assert sandbox.state()["faults"] == []


def test_a_fault_without_times_stays_until_it_is_deleted(client: httpx2.Client) -> None:
    client.post("/_sandbox/faults", json={"kind": "daily_limit", "path": "/key"})

    assert [client.get("/key").status_code for _ in range(3)] == [429, 429, 429]
    assert client.delete("/_sandbox/faults").json()["faults"] == []
    assert client.get("/key").status_code == 200


def test_a_refused_request_uses_no_fault(sandbox: Sandbox, client: httpx2.Client) -> None:
    sandbox.add_fault("garbage", times=1)
    sandbox.set_limits(daily_limit=0)

    assert client.get("/book/9780441013593").status_code == 429
    assert sandbox.state()["faults"][0]["times"] == 1


def test_while_the_limit_seems_reached_the_key_tells_so(sandbox: Sandbox, client: httpx2.Client) -> None:
    sandbox.add_fault("daily_limit")

    assert client.get("/book/9780441013593").json() == {"message": "Daily quota exceeded"}
    assert client.get("/key").json()["plan_limit"] == {"total": 15_000, "spent": 15_000, "left": 0}
    assert sandbox.spent == 2


def test_the_counter_can_run_backwards_and_jump(sandbox: Sandbox, client: httpx2.Client) -> None:
    sandbox.set_limits(spent=10)
    for calls in (-5, 40, -100):
        sandbox.add_fault("miscount", times=1, calls=calls)

    assert client.get("/book/9780441013593").status_code == 200
    assert [client.get("/key").json()["plan_limit"]["spent"] for _ in range(4)] == [12 - 5, 13 + 40, 0, 15]
    assert sandbox.spent == 15


@pytest.mark.parametrize(("kind", "found"), [("drop", None), ("drop_before_answer", 2)])
def test_a_dropped_request_has_no_answer(sandbox: Sandbox, client: httpx2.Client, kind: str, found: int | None) -> None:
    sandbox.add_fault(kind, times=1)

    with pytest.raises(httpx2.TransportError):
        client.post("/books", json=THREE_ISBNS)

    [request] = sandbox.requests
    assert (request["status"], request["found"]) == (None, found)
    assert client.post("/books", json=THREE_ISBNS).status_code == 200


def test_garbage_has_the_content_type_of_json(sandbox: Sandbox, client: httpx2.Client) -> None:
    sandbox.add_fault("garbage", times=1)

    answer = client.get("/key")

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_a_truncated_answer_ends_early(sandbox: Sandbox, client: httpx2.Client) -> None:
    sandbox.add_fault("truncate", times=1)

    with pytest.raises(httpx2.RemoteProtocolError):
        client.post("/books", json=THREE_ISBNS)


def test_a_redirect_has_another_location(sandbox: Sandbox, client: httpx2.Client) -> None:
    sandbox.add_fault("redirect", times=1)
    sandbox.add_fault("redirect", times=1, status=307, headers={"Location": "https://elsewhere.example/"})

    answers = [client.get("/key"), client.get("/key")]

    assert [answer.status_code for answer in answers] == [302, 307]
    assert [answer.headers["Location"] for answer in answers] == ["/redirected/key", "https://elsewhere.example/"]


def test_latency_delays_the_answer(sandbox: Sandbox, client: httpx2.Client) -> None:
    sandbox.add_fault("latency", seconds=60, times=1)

    with pytest.raises(httpx2.ReadTimeout):
        client.get("/key", timeout=httpx2.Timeout(30, read=0.1))
    wait_until(lambda: len(sandbox.requests) == 1)

    assert client.get("/key").json()["plan_limit"]["spent"] == 2


def test_a_dripping_answer_arrives_complete(sandbox: Sandbox, client: httpx2.Client) -> None:
    whole = client.post("/books", json=THREE_ISBNS).content
    sandbox.add_fault("drip", seconds=0.1, times=1)

    with client.stream("POST", "/books", json=THREE_ISBNS) as answer:
        pieces = list(answer.iter_raw())

    assert b"".join(pieces) == whole
    assert len(pieces) > 1


def test_one_connection_serves_many_requests(sandbox: Sandbox) -> None:
    with socket.create_connection(("127.0.0.1", sandbox.port)) as connection, connection.makefile("rb") as answers:
        for _ in range(3):
            connection.sendall(b"GET /key HTTP/1.1\r\nHost: x\r\nAuthorization: sandbox-key\r\n\r\n")
            headers = dict(line.split(b": ", 1) for line in iter(answers.readline, b"\r\n") if b": " in line)
            assert answers.read(int(headers[b"Content-Length"])).startswith(b'{"api_host"')


@pytest.mark.parametrize("header", ["Transfer-Encoding: chunked", "Content-Length: many", "Content-Length: 99999999"])
def test_a_body_of_unknown_length_is_refused_and_the_connection_closed(sandbox: Sandbox, header: str) -> None:
    with socket.create_connection(("127.0.0.1", sandbox.port)) as connection, connection.makefile("rb") as answer:
        connection.sendall(
            f"POST /books HTTP/1.1\r\nHost: x\r\nAuthorization: sandbox-key\r\n{header}\r\n\r\n".encode()
        )
        assert answer.read().startswith(b"HTTP/1.1 411")
    assert sandbox.spent == 1


def test_a_head_request_gets_no_body(client: httpx2.Client) -> None:
    answer = client.head("/key")

    assert (answer.status_code, answer.content) == (404, b"")
    assert client.get("/key").status_code == 200


def test_a_client_that_disconnects_is_not_logged(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", sandbox.port)) as connection:
        connection.sendall(b"GET /key HTTP/1.1\r\n")
        # With no time to linger, closing sends a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sandbox.__exit__(None, None, None)

    assert capsys.readouterr().err == ""
    assert sandbox.requests == []


def test_exit_closes_all_connections_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with Sandbox(max_rps=None) as sandbox, connect(sandbox) as idle, ThreadPoolExecutor(1) as threads:
        sandbox.add_fault("latency", seconds=3600, path="/book/")
        idle.get("/key")
        waiting = threads.submit(httpx2.get, f"{sandbox.url}/book/1", headers=idle.headers)
        wait_until(lambda: len(sandbox.requests) == 2)
        sandbox.__exit__(None, None, None)
        assert [thread.name for thread in threading.enumerate() if "process_request_thread" in thread.name] == []
        with pytest.raises(httpx2.TransportError):
            waiting.result(timeout=30)
        with pytest.raises(httpx2.TransportError):
            idle.get("/key")

    assert set(threading.enumerate()) <= before
