"""`manage.py smoke` over HTTP, against a real server."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from alexandria.development.sandbox.server import Sandbox
from alexandria.management.commands import smoke
from quota.models import Consumer, ConsumerKey
from quota.services import reservations
from tests.fixtures import NOON, SetClock, balance

CHECKS = [
    "status is reachable",
    "reset is the next midnight",
    "an ISBN is enriched for one call",
    "asking again is free",
    "a reached limit is a 429",
    "the price of a batch is known",
    "ISBNdb's counter equals ours",
]


@pytest.fixture(autouse=True)
def noon(monkeypatch) -> None:
    """In the tests the clock of the quota shows noon, so the command's clock must, too."""
    monkeypatch.setattr(smoke, "now", lambda: NOON)


@pytest.fixture
def refused_key(consumer: Consumer) -> str:
    nothing = Consumer.objects.create(slug="smoke-refused", daily_budget=0)
    _, key = ConsumerKey.objects.create_key(name="smoke", consumer=nothing)
    return str(key)


def walk(capsys, live_server, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    code = 0
    try:
        call_command("smoke", "--server", live_server.url, "--json", *arguments)
    except SystemExit as error:
        code = int(str(error.code))
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_all_checks_pass_on_a_healthy_instance_for_two_calls(
    capsys, live_server, sandbox: Sandbox, key: str, refused_key: str
) -> None:
    code, results = walk(capsys, live_server, "--api-key", key, "--refused-key", refused_key, "--new-day")
    assert code == 0
    assert [result["check"] for result in results] == CHECKS
    assert {result["outcome"] for result in results} == {"ok"}
    assert balance(sandbox) == (2, 2)


@pytest.mark.slow
def test_without_a_refused_key_the_429_check_is_skipped_and_says_what_it_needs(
    capsys, live_server, sandbox: Sandbox, key: str
) -> None:
    code, results = walk(capsys, live_server, "--api-key", key)
    assert code == 0
    assert [result["outcome"] for result in results] == ["ok", "ok", "ok", "ok", "skipped", "ok", "ok"]
    assert "smoke-refused" in results[4]["detail"]


@pytest.mark.slow
def test_calls_that_only_isbndb_counted_are_a_failure(capsys, live_server, sandbox: Sandbox, key: str) -> None:
    sandbox.set_limits(spent=9)
    code, results = walk(capsys, live_server, "--api-key", key)
    assert code == 1
    assert results[-1] == {
        "check": CHECKS[-1],
        "outcome": "failed",
        "detail": "ISBNdb counts 11 calls, we counted 2.",
    }


@pytest.mark.slow
def test_fewer_calls_at_isbndb_than_ours_are_reported(capsys, live_server, sandbox: Sandbox, key: str) -> None:
    reservations.increment(5)
    code, results = walk(capsys, live_server, "--api-key", key)
    assert code == 0
    assert results[-1]["detail"] == "we count 7, 5 more than ISBNdb, which is safe"


@pytest.mark.slow
def test_a_count_that_can_be_yesterdays_is_skipped(
    capsys, live_server, sandbox: Sandbox, key: str, set_clock: SetClock, monkeypatch
) -> None:
    early = datetime(2026, 5, 6, 0, 1, tzinfo=UTC)
    set_clock(early)
    monkeypatch.setattr(smoke, "now", lambda: early)
    sandbox.set_limits(spent=8_000)
    code, results = walk(capsys, live_server, "--api-key", key)
    assert (code, results[-1]["outcome"]) == (0, "skipped")
    assert results[-1]["detail"].startswith("ISBNdb counts 8,002 calls. This was ignored: It may be yesterday's")


@pytest.mark.slow
def test_a_repeated_request_that_raises_the_count_is_a_failure(
    capsys, live_server, sandbox: Sandbox, key: str, monkeypatch
) -> None:
    enrich = smoke.Checks.enrich

    def with_others(walk: smoke.Checks, isbn: str, *, refresh: bool) -> dict[str, Any]:
        if not refresh:
            reservations.increment(1)
        return enrich(walk, isbn, refresh=refresh)

    monkeypatch.setattr(smoke.Checks, "enrich", with_others)
    code, results = walk(capsys, live_server, "--api-key", key)
    assert (code, results[-1]["check"], results[-1]["outcome"]) == (1, CHECKS[3], "failed")
    assert "used rose by 1 for 0 calls" in results[-1]["detail"]


@pytest.mark.slow
def test_a_second_check_within_a_minute_asks_for_other_isbns(
    capsys, live_server, sandbox: Sandbox, key: str, refused_key: str
) -> None:
    for _ in range(2):
        code, results = walk(capsys, live_server, "--api-key", key, "--refused-key", refused_key)
        assert (code, [result["check"] for result in results]) == (0, CHECKS), results[-1]


def test_the_command_stops_at_the_first_failure(capsys, live_server, sandbox: Sandbox, key: str) -> None:
    reservations.increment(5)
    code, results = walk(capsys, live_server, "--api-key", key, "--new-day")
    assert code == 1
    assert [result["outcome"] for result in results] == ["failed"]
    code, results = walk(capsys, live_server, "--api-key", "not-a-key")
    assert (code, "401" in results[0]["detail"]) == (1, True)


def test_an_unreachable_server_is_a_failure(capsys) -> None:
    with pytest.raises(SystemExit):
        call_command("smoke", "--server", "http://127.0.0.1:1", "--api-key", "x")
    assert "Connection refused" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--api-key", "--refused-key"])
def test_an_impossible_key_is_refused_and_never_shown(capsys, option: str) -> None:
    keys = {"--api-key": "one", "--refused-key": "two", option: "secr\u00e9t\nwords"}
    with pytest.raises(CommandError, match="API key is not valid") as refused:
        call_command("smoke", "--server", "http://127.0.0.1:1", *(part for pair in keys.items() for part in pair))
    assert "secr" not in f"{refused.value}{capsys.readouterr()}"


@pytest.mark.parametrize("arguments", [["--server", "http://x"], ["--server", "x", "--api-key", "y"]])
def test_invalid_options_are_named(arguments: list[str], monkeypatch) -> None:
    monkeypatch.delenv(smoke.KEY, raising=False)
    with pytest.raises(CommandError, match=r"--api-key|--server"):
        call_command("smoke", *arguments)


def test_unknown_options_exit_with_1(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        smoke.Command().run_from_argv(["manage.py", "smoke", "--what"])
    assert ended.value.code == 1
