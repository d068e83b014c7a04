"""The sandbox's counter and limits, its clock, and its state file."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from alexandria.development.sandbox import Sandbox
from tests.alexandria.development.clients import THREE_ISBNS, connect


def test_every_request_with_the_key_is_counted_with_any_outcome(sandbox: Sandbox, client: httpx2.Client) -> None:
    sandbox.add_fault("status", status=500, times=1, path="/author/")
    sandbox.add_fault("drop", times=1, path="/search/")

    statuses = [client.get(path).status_code for path in ("/key", "/book/9780441013593", "/book/1", "/x", "/author/A")]
    statuses.append(client.post("/books", content=b"broken").status_code)
    with pytest.raises(httpx2.TransportError):
        client.get("/search/books?text=dune")

    assert statuses == [200, 200, 404, 404, 500, 400]
    assert sandbox.spent == 7
    assert client.get("/key").json()["plan_limit"] == {"total": 15_000, "spent": 8, "left": 14_992}


def test_the_record_of_a_batch_has_the_numbers_of_isbns(sandbox: Sandbox, client: httpx2.Client) -> None:
    client.post("/books", json=THREE_ISBNS)

    [request] = sandbox.requests
    assert (request["method"], request["path"], request["status"]) == ("POST", "/books", 200)
    assert (request["asked"], request["found"]) == (3, 2)
    assert abs(request["at"] - sandbox.meter.now()) < 60


@pytest.mark.parametrize("headers", [{}, {"Authorization": "wrong"}, {"Authorization": "Bearer sandbox-key"}])
def test_without_the_bare_key_the_answer_is_401_and_nothing_is_counted(
    sandbox: Sandbox, headers: dict[str, str]
) -> None:
    answer = httpx2.post(f"{sandbox.url}/books", json=THREE_ISBNS, headers=headers)

    assert answer.status_code == 401
    assert {"message", "error"} <= set(answer.json())
    assert sandbox.spent == 0
    assert (sandbox.requests[0]["counted"], sandbox.requests[0]["price"]) == (False, 0)


@pytest.mark.slow
def test_concurrent_clients_get_exactly_the_daily_limit(tmp_path: Path) -> None:
    with Sandbox(max_rps=None, daily_limit=50, state_file=tmp_path / "state.json") as sandbox:

        def ask(_: int) -> list[int]:
            with connect(sandbox) as client:
                return [client.get("/book/9780441013593").status_code for _ in range(5)]

        with ThreadPoolExecutor(20) as threads:
            statuses = [status for some in threads.map(ask, range(20)) for status in some]

        assert sorted(statuses) == [200] * 50 + [429] * 50
        assert sandbox.spent == 100


def test_more_than_three_requests_in_a_second_are_too_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [100.0]
    monkeypatch.setattr("alexandria.development.sandbox.meter.monotonic", lambda: seconds[0])
    with Sandbox(rate_headers=["retry-after"]) as sandbox, connect(sandbox) as client:

        def at(second: float) -> httpx2.Response:
            seconds[0] = second
            return client.get("/key")

        answers = [at(second) for second in (100.0, 100.4, 100.9, 100.99, 101.01, 102.5)]

        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429, 200]
        assert sandbox.most_in_a_second == 4
        sandbox.set_limits(max_rps=None)
        at(200.0)
        assert sandbox.state()["most_in_a_second"] == 1
        assert answers[3].json() == {"message": "Per minute quota exceeded"}
        assert answers[3].headers["Retry-After"] == "1"
        assert sandbox.spent == 7


def test_a_new_count_begins_at_midnight_utc(sandbox: Sandbox, client: httpx2.Client) -> None:
    client.get("/key")
    today = sandbox.state()["day"]

    answer = client.post("/_sandbox/clock", json={"offset_seconds": 86_400})

    assert answer.json()["day"] > today
    assert answer.json()["spent"] == 0
    assert client.get("/key").json()["plan_limit"]["spent"] == 1
    client.post("/_sandbox/clock", json={"offset_seconds": 0})
    assert client.get("/_sandbox/state").json()["spent"] == 1


@pytest.mark.slow
def test_the_count_of_the_day_survives_a_restart(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        with Sandbox(state_file=tmp_path / "state.json") as sandbox, connect(sandbox) as client:
            assert client.get("/key").json()["plan_limit"]["spent"] == expected
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_the_state_file_drops_old_days(tmp_path: Path) -> None:
    state_file = tmp_path / "state.json"
    with Sandbox(state_file=state_file) as sandbox, connect(sandbox) as client:
        for day in range(12):
            sandbox.set_clock(offset_seconds=day * 86_400)
            client.get("/key")

        days = json.loads(state_file.read_text())["spent"]
        assert len(days) == 10
        assert sandbox.state()["day"] in days


@pytest.mark.parametrize("content", ["", "[]", '{"spent": {"today": 1}}', '{"spent": {"2025-01-01": "x"}}'])
def test_an_invalid_state_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    state_file = tmp_path / "state.json"
    state_file.write_text(content)

    with pytest.raises(ValueError, match=r"state\.json"):
        Sandbox(state_file=state_file)


def test_limits_can_be_changed_one_by_one(sandbox: Sandbox, client: httpx2.Client) -> None:
    client.post("/_sandbox/limits", json={"daily_limit": 10, "spent": 9})

    assert [client.get("/book/9780441013593").status_code for _ in range(2)] == [200, 429]
    assert client.post("/_sandbox/limits", json={"max_rps": 5}).json()["max_rps"] == 5
    assert client.post("/_sandbox/limits", json={"max_rps": None}).json()["limit"] == 10
    assert sandbox.spent == 11


def test_control_requests_are_not_counted_and_need_no_key(sandbox: Sandbox) -> None:
    state = httpx2.get(f"{sandbox.url}/_sandbox/state").json()

    assert (state["spent"], state["limit"], state["requests"]) == (0, 15_000, [])
    assert httpx2.get(f"{sandbox.url}/_sandbox/nothing").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("faults", {}, "kind"),
        ("faults", {"kind": "explode"}, "kind"),
        ("faults", {"kind": "drop", "times": 0}, "times"),
        ("faults", {"kind": "drop", "often": 1}, "often"),
        ("faults", {"kind": "drop", "path": "books"}, "path"),
        ("faults", {"kind": "latency", "seconds": -1}, "seconds"),
        ("faults", {"kind": "status", "status": 99}, "status"),
        ("faults", {"kind": "status", "headers": {"X": "a\r\nb"}}, "headers"),
        ("limits", {"daily_limit": "many"}, "daily_limit"),
        ("limits", {"max_rps": 0}, "max_rps"),
        ("limits", {"spent": True}, "spent"),
        ("faults", {"kind": "miscount", "calls": 0.5}, "calls"),
        ("plan", {"batch_price": "book"}, "batch_price"),
        ("plan", {"batch_price": []}, "batch_price"),
        ("plan", {"key_price": 2}, "key_price"),
        ("plan", {"feed_price": True}, "feed_price"),
        ("plan", {"limit_answer": "500"}, "limit_answer"),
        ("plan", {"rate_headers": ["Retry-After"]}, "rate_headers"),
        ("plan", {"counter_lag": -1}, "counter_lag"),
        ("plan", {"charge_failed": 0}, "charge_failed"),
        ("plan", {"price": 1}, "price"),
        ("clock", {"offset_seconds": "tomorrow"}, "offset_seconds"),
        ("clock", [], "body"),
        ("clock", "{broken", "body"),
    ],
)
def test_invalid_control_input_is_a_400_that_names_the_field(
    sandbox: Sandbox, path: str, body: Any, field: str
) -> None:
    content = body if isinstance(body, str) else json.dumps(body)

    answer = httpx2.post(f"{sandbox.url}/_sandbox/{path}", content=content)

    assert answer.status_code == 400
    assert answer.json()["field"] == field
    assert field in answer.json()["message"]
