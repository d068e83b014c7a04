"""`manage.py isbndb_sandbox`, as the demo and `make run` start it."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.core.management import CommandError, call_command

import alexandria
from alexandria.development.sandbox import Sandbox

pytestmark = pytest.mark.slow

MANAGE = Path(alexandria.__file__).parent.parent / "manage.py"


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The command as a process, with the address and the key that it prints."""
    command = [sys.executable, str(MANAGE), "isbndb_sandbox", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            line = process.stdout.readline()
            ready = re.fullmatch(
                r"Sandbox ISBNdb on (http://\S+) counts batches by the (?:ISBN|request), with the key (\S+)\n", line
            )
            assert ready
            yield process, ready[1], ready[2]
        finally:
            process.kill()


def test_it_listens_once_it_says_so_and_ends_cleanly(tmp_path: Path) -> None:
    options = ["--key", "s3cret", "--daily-limit", "7", "--max-rps", "0"]
    with running(*options, "--state-file", str(tmp_path / "state.json")) as (process, address, key):
        answer = httpx2.get(f"{address}/key", headers={"Authorization": key})
        assert answer.json() == {"api_host": address, "plan_limit": {"total": 7, "spent": 1, "left": 6}}
        assert httpx2.get(f"{address}/_sandbox/state").json()["max_rps"] is None

        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=60) == 0
        assert process.stdout
        assert process.stdout.read() == ""


def test_every_term_of_the_plan_is_an_option() -> None:
    terms = {
        "batch_price": "request",
        "key_price": 0,
        "feed_price": 1,
        "limit_answer": "404-not-found",
        "rate_headers": ["ratelimit", "reset-epoch"],
        "counter_lag": 2.5,
        "charge_failed": False,
    }
    prices = ["--batch-price=request", "--key-price=0", "--feed-price=1", "--no-charge-failed", "--counter-lag=2.5"]
    words = ["--limit-answer=404-not-found", "--rate-header=ratelimit", "--rate-header=reset-epoch"]
    with running(*prices, *words) as (_, address, _):
        assert httpx2.get(f"{address}/_sandbox/state").json()["plan"] == terms


def test_kill_9_loses_no_call_and_an_interrupt_ends_it(tmp_path: Path) -> None:
    state_file = str(tmp_path / "state.json")
    with running("--state-file", state_file) as (process, address, key):
        for _ in range(2):
            httpx2.get(f"{address}/book/9780441013593", headers={"Authorization": key})
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    with running("--state-file", state_file, "--port", address.rpartition(":")[2]) as (process, same_address, _):
        assert same_address == address
        assert httpx2.get(f"{address}/_sandbox/state").json()["spent"] == 2

        process.send_signal(signal.SIGINT)

        assert process.wait(timeout=60) == 0


def test_it_says_that_the_port_is_in_use() -> None:
    with (
        Sandbox() as sandbox,
        pytest.raises(CommandError, match=rf"cannot listen on 127\.0\.0\.1:{sandbox.port}.*in use"),
    ):
        call_command("isbndb_sandbox", port=sandbox.port)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"daily_limit": -1}, "daily_limit"),
        ({"max_rps": -1}, "max_rps"),
        ({"latency": -1.0}, "seconds"),
        ({"counter_lag": -1.0}, "counter_lag"),
        ({"port": 70_000}, "70000"),
        ({"state_file": Path("/nowhere/state.json")}, "/nowhere"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("isbndb_sandbox", **options)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
