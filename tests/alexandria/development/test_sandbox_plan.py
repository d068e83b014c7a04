"""What the sandbox charges, what it says above the daily limit, its rate headers, and its lagging counter."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from alexandria.development.sandbox import Sandbox
from alexandria.development.sandbox.plan import LIMIT_ANSWERS
from tests.alexandria.development.clients import THREE_ISBNS, connect

DUNE = "/book/9780441013593"
FEED = "/feeds/books/updates"
EVENING = datetime(2026, 5, 5, 23, tzinfo=UTC)


def counter(client: httpx2.Client) -> int:
    spent: int = client.get("/key").json()["plan_limit"]["spent"]
    return spent


def prices(sandbox: Sandbox) -> list[int]:
    return [request["price"] for request in sandbox.requests]


def set_evening(sandbox: Sandbox) -> None:
    sandbox.set_clock(offset_seconds=(EVENING - datetime.now(UTC)).total_seconds())


@pytest.mark.parametrize(("batch_price", "calls"), [("isbn", 3), ("request", 1)])
def test_a_batch_costs_a_call_or_a_call_for_each_isbn(
    sandbox: Sandbox, client: httpx2.Client, batch_price: str, calls: int
) -> None:
    sandbox.set_plan(batch_price=batch_price)

    client.post("/books", json=THREE_ISBNS)

    assert (sandbox.spent, prices(sandbox)) == (calls, [calls])


def test_the_contract_counts_by_the_isbn_and_the_price_can_change_at_any_time(
    sandbox: Sandbox, client: httpx2.Client
) -> None:
    assert sandbox.state()["plan"]["batch_price"] == "isbn"
    client.post("/books", json=THREE_ISBNS)

    answer = client.post("/_sandbox/plan", json={"batch_price": "request", "key_price": 0})

    client.post("/books", json=THREE_ISBNS)
    assert (answer.json()["plan"]["batch_price"], counter(client)) == ("request", 4)
    assert [request["price"] for request in client.get("/_sandbox/state").json()["requests"]] == [3, 1, 0]


@pytest.mark.parametrize(
    ("body", "status", "calls"),
    [
        ({"json": {"isbns": ["9780441013593"] * 5}}, 200, 5),
        ({"json": {"isbns": ["no ISBN", "9780441013594"]}}, 200, 2),
        ({"data": {"isbns": "9780441013593,9780451524935"}}, 200, 2),
        ({"json": {"isbns": ["9780441013593"] * 1_001}}, 400, 1_001),
        ({"json": {"isbns": []}}, 400, 1),
        ({"content": b"broken"}, 400, 1),
    ],
)
def test_every_requested_isbn_counts_whatever_it_is(
    sandbox: Sandbox, client: httpx2.Client, body: dict[str, Any], status: int, calls: int
) -> None:
    assert client.post("/books", **body).status_code == status
    assert sandbox.spent == calls


@pytest.mark.parametrize("kind", ["drop", "drop_before_answer"])
def test_a_dropped_batch_costs_its_isbns(sandbox: Sandbox, client: httpx2.Client, kind: str) -> None:
    sandbox.add_fault(kind, times=1)

    with pytest.raises(httpx2.TransportError):
        client.post("/books", json=THREE_ISBNS)

    assert prices(sandbox) == [3]


def test_the_feed_is_free_and_the_key_costs_a_call_or_none(sandbox: Sandbox, client: httpx2.Client) -> None:
    for terms in ({}, {"key_price": 0}, {"key_price": 1, "feed_price": 1}):
        sandbox.set_plan(**terms)
        client.get(FEED)
        client.get("/key")

    assert prices(sandbox) == [0, 1, 0, 0, 1, 1]


@pytest.mark.parametrize("limit_answer", LIMIT_ANSWERS)
def test_above_the_daily_limit_every_wording_refuses_and_counts_but_the_key_is_answered(limit_answer: str) -> None:
    status, body = LIMIT_ANSWERS[limit_answer]
    with Sandbox(max_rps=None, daily_limit=2, limit_answer=limit_answer) as sandbox, connect(sandbox) as client:
        answers = [client.get(DUNE) for _ in range(4)]

        assert [answer.status_code for answer in answers] == [200, 200, status, status]
        assert answers[3].json() == body
        assert client.get("/key").json()["plan_limit"] == {"total": 2, "spent": 5, "left": 0}
        assert client.get(FEED).status_code == 200
        assert prices(sandbox) == [1, 1, 1, 1, 1, 0]


def test_a_batch_that_passes_the_daily_limit_is_refused_as_a_whole_and_counted(
    sandbox: Sandbox, client: httpx2.Client
) -> None:
    sandbox.set_limits(daily_limit=4)

    answers = [client.post("/books", json=THREE_ISBNS), client.post("/books", json=THREE_ISBNS), client.get(DUNE)]

    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert sandbox.spent == 7


def test_a_plan_that_does_not_charge_failures_counts_no_5xx_and_nothing_above_a_limit(
    sandbox: Sandbox, client: httpx2.Client
) -> None:
    sandbox.set_plan(charge_failed=False, limit_answer="403-daily-hits")
    sandbox.set_limits(daily_limit=5)
    sandbox.add_fault("status", times=1, status=500)

    answers = [client.post("/books", json=THREE_ISBNS) for _ in range(3)]
    answers.append(client.get("/book/1"))
    sandbox.set_limits(max_rps=1)
    answers.append(client.get(DUNE))

    assert [answer.status_code for answer in answers] == [500, 200, 403, 404, 429]
    assert prices(sandbox) == [0, 3, 0, 1, 0]
    assert sandbox.spent == 4


@pytest.mark.parametrize(
    ("limit_answer", "message"),
    [("403-daily-hits", "Per minute quota exceeded"), ("429-limit-exceeded", "Limit Exceeded")],
)
def test_limit_exceeded_can_mean_that_only_the_pace_is_broken(limit_answer: str, message: str) -> None:
    with Sandbox(max_rps=1, limit_answer=limit_answer) as sandbox, connect(sandbox) as client:
        client.get(DUNE)
        answer = client.get(DUNE)

        assert (answer.status_code, answer.json()) == (429, {"message": message})


def test_concurrent_batches_are_answered_only_as_far_as_the_limit_goes() -> None:
    with Sandbox(max_rps=None, daily_limit=50, charge_failed=False) as sandbox:

        def ask(_: int) -> list[int]:
            with connect(sandbox) as client:
                return [client.post("/books", json=THREE_ISBNS).status_code for _ in range(5)]

        with ThreadPoolExecutor(8) as threads:
            statuses = [status for some in threads.map(ask, range(8)) for status in some]

        assert sorted(statuses) == [200] * 16 + [429] * 24
        assert sandbox.spent == 48


@pytest.mark.parametrize(
    ("names", "at_the_limit", "too_fast"),
    [
        (["retry-after"], {"Retry-After": "3600"}, {"Retry-After": "1"}),
        (
            ["ratelimit"],
            {"RateLimit": '"daily";r=0;t=3600, "pace";r=1;t=1'},
            {"RateLimit": '"daily";r=0;t=3600, "pace";r=0;t=1'},
        ),
        (
            ["ratelimit-old"],
            {"RateLimit": "limit=1, remaining=0, reset=3600"},
            {"RateLimit": "limit=2, remaining=0, reset=1"},
        ),
        (["reset-seconds"], {"X-RateLimit-Reset": "3600"}, {"X-RateLimit-Reset": "1"}),
        (["reset-epoch"], {"X-RateLimit-Reset": "1778025600"}, {"X-RateLimit-Reset": "1778022001"}),
        (
            ["retry-after", "reset-seconds"],
            {"Retry-After": "3600", "X-RateLimit-Reset": "3600"},
            {"Retry-After": "1", "X-RateLimit-Reset": "1"},
        ),
    ],
)
def test_rate_headers_tell_when_the_limit_ends(
    names: list[str],
    at_the_limit: dict[str, str],
    too_fast: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Sandbox(max_rps=2, daily_limit=1, rate_headers=names) as sandbox, connect(sandbox) as client:
        monkeypatch.setattr(sandbox.meter, "now", EVENING.timestamp)
        answers = [client.get(path) for path in (DUNE, DUNE, "/key")]

    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert "Retry-After" not in answers[0].headers
    for answer, headers in zip(answers[1:], (at_the_limit, too_fast), strict=True):
        assert {name: answer.headers[name] for name in headers} == headers


def test_rate_headers_come_with_every_answer_but_only_on_demand(sandbox: Sandbox, client: httpx2.Client) -> None:
    assert not {"RateLimit", "X-RateLimit-Reset"} & set(client.get(DUNE).headers)
    sandbox.set_plan(rate_headers=["ratelimit"])
    sandbox.add_fault("status", times=1, headers={"RateLimit": "own"})

    assert client.get(DUNE).headers["RateLimit"] == "own"
    assert client.get(DUNE).headers["RateLimit"].startswith('"daily";r=14997;t=')


def test_a_lagging_counter_tells_an_old_count_and_the_limit_holds_all_the_same(
    sandbox: Sandbox, client: httpx2.Client
) -> None:
    set_evening(sandbox)
    sandbox.set_limits(daily_limit=5)
    sandbox.set_plan(counter_lag=20, key_price=0)
    client.post("/books", json=THREE_ISBNS)

    assert (counter(client), sandbox.spent) == (0, 3)
    sandbox.set_clock(offset_seconds=sandbox.meter.offset_seconds + 21)
    assert client.post("/books", json=THREE_ISBNS).status_code == 429
    assert counter(client) == 3
    sandbox.set_plan(counter_lag=0)
    assert counter(client) == 6


def test_a_lagging_counter_begins_the_day_at_nothing(sandbox: Sandbox, client: httpx2.Client) -> None:
    set_evening(sandbox)
    sandbox.set_plan(counter_lag=20, key_price=0)
    client.post("/books", json=THREE_ISBNS)
    sandbox.set_clock(offset_seconds=sandbox.meter.offset_seconds + 3_600)
    client.get(DUNE)

    assert counter(client) == 0
    sandbox.set_clock(offset_seconds=sandbox.meter.offset_seconds + 21)
    assert counter(client) == 1
