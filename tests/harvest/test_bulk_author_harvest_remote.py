"""manage.py bulk_author_harvest --server: only through a server, with a checkpoint in a file."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

from harvest.bulk import run
from harvest.bulk.server import server_address
from tests.fixtures import silent_port
from tests.harvest.bulk import COMMAND, Ended, a_list, harvest, start
from tests.harvest.server_double import KEY, ServerDouble, serving

BOOKS = {"Agatha Christie": 2432, "Adam Silvera": 9, "Nora Roberts": 66}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("ALEXANDRIA_API_KEY", KEY)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def server() -> Iterator[ServerDouble]:
    with serving(ServerDouble(BOOKS)) as double:
        yield double


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return a_list(tmp_path, "Agatha Christie", "Nobody", "Adam Silvera", "Nora Roberts")


def through(server: ServerDouble, *arguments: str | Path) -> Ended:
    return harvest("--server", server.url, *arguments)


@pytest.mark.slow
def test_a_list_is_harvested_through_the_server_without_any_database(server: ServerDouble, listed: Path) -> None:
    """Nothing to do: pytest-django blocks the database in a test that does not request it."""
    ended = through(server, listed)
    assert ended.code == 0, ended.message
    assert [(each["name"], each["state"], each["books"], each["calls"]) for each in ended.named("author")] == [
        ("Agatha Christie", "done", 2432, 3),
        ("Nobody", "unknown", 0, 1),
        ("Adam Silvera", "done", 9, 1),
        ("Nora Roberts", "done", 66, 1),
    ]
    [source] = server.sources
    assert source.startswith("bulk-")
    assert through(server, listed, "--resume").named("author") == []
    assert len(server.asked) == 6


@pytest.mark.slow
def test_a_used_up_quota_ends_it_with_2_and_the_checkpoint_continues_exactly_there(
    server: ServerDouble, listed: Path, tmp_path: Path
) -> None:
    server.left = 2
    first = through(server, listed)
    assert (first.code, first.summary["pending"], first.summary["books"]) == (2, 4, 2000)
    assert "--resume continues" in through(server, listed).message
    [path] = (tmp_path / "state" / "alexandria").glob("*.jsonl")
    other = through(server, "--author", "Somebody Else", "--checkpoint", path, "--resume")
    assert other.code == 1
    assert "of another list: authors.txt" in other.message

    server.left = 1000
    plan = through(server, "--resume", "--checkpoint", path, "--dry-run").events[0]
    assert (plan["to_do"], plan["calls_at_least"], plan["calls_at_most"], plan["days_at_most"]) == (4, 4, 38, 1)
    second = through(server, "--resume", "--checkpoint", path)
    assert (second.code, second.summary["calls"]) == (0, 6)
    assert len(server.asked) == len(set(server.asked)) == 6


@pytest.mark.slow
def test_with_wait_it_continues_at_the_time_that_the_server_gives(server: ServerDouble, listed: Path) -> None:
    server.left, server.retry_after = 3, 0
    server.failures = []
    enrich = server.enrich

    def refill(body):
        answer = enrich(body)
        server.left += 1000 * (answer[0] == 429)
        return answer

    server.enrich = refill
    ended = through(server, listed, "--wait")
    assert (ended.code, len(ended.named("waiting"))) == (0, 1)
    assert ended.named("waiting")[0] == {"event": "waiting", "limit": "safety_limit", "until": "2026-05-06T00:00:00Z"}


@pytest.mark.slow
def test_a_failure_of_isbndb_fails_the_author_and_a_failure_of_the_server_is_tried_again(
    server: ServerDouble, listed: Path
) -> None:
    server.failures = [
        (503, {"code": "quota_unavailable", "detail": "Our database is away."}, {}),
        (0, {}, {}),
        (504, {"code": "isbndb_timeout", "detail": "ISBNdb did not answer.", "api_calls": 1}, {}),
        (400, {"code": "invalid", "detail": "author_name: not that."}, {}),
    ]
    ended = through(server, listed)
    assert ended.code == 3
    away, dropped = (each["error"] for each in ended.named("trying_again"))
    assert away == "Our database is away."
    assert "does not answer" in dropped
    assert ended.summary["failures"] == {"isbndb_timeout": 1, "refused": 1}
    assert ended.named("author")[0]["calls"] == 1
    assert through(server, listed, "--resume").summary["done"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "failure", [(504, {}, {}), (502, {}, {}), (0, {}, {}), (503, {"code": "x", "api_calls": 1}, {})]
)
def test_a_page_that_may_have_been_paid_for_is_fetched_only_once_more(
    failure: tuple[int, dict[str, object], dict[str, str]], server: ServerDouble, listed: Path
) -> None:
    server.failures = [failure, (503, {}, {}), failure]  # a request that was certainly not paid for does not count
    ended = through(server, listed)
    assert ended.code == 3
    assert ended.summary["failures"] == {"no_answer": 1}
    assert ended.named("author")[0]["detail"]
    assert (ended.summary["done"], len(server.failures), len(server.asked)) == (2, 0, 3)

    server.failures = [failure] * 10
    ended = through(server, listed, "--restart")
    assert ended.code == 3
    assert len(server.failures) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ((403, {"code": "consumer_inactive", "detail": "Harvesting is switched off."}, {}), "The server refuses: Harv"),
        ((403, {"code": "permission_denied", "detail": "No."}, {}), "does not accept the API key: No."),
        (
            (404, {"detail": "There is nothing at /api/authors/."}, {}),
            "not an Alexandria that can harvest authors: There is",
        ),
        ((301, {}, {"Location": "https://elsewhere.example/api/"}), "Try --server https://elsewhere.example."),
        ((200, {"surprise": True}, {}), "not what its API promises"),
    ],
)
def test_a_permanent_error_ends_it_with_its_reason(
    failure: tuple[int, dict[str, object], dict[str, str]], message: str, server: ServerDouble, listed: Path
) -> None:
    server.failures = [failure]
    ended = through(server, listed)
    assert ended.code == 1
    assert message in ended.message
    assert server.asked == []
    assert through(server, listed, "--resume").code == 0


@pytest.mark.slow
def test_it_gives_up_on_a_lost_server_within_limits(server: ServerDouble, listed: Path) -> None:
    server.failures = [(503, {}, {}), (500, {"code": "error", "detail": "Oops."}, {}), (429, {}, {})]
    ended = through(server, listed)
    assert ended.code == 1
    assert "Gave up after 3 tries" in ended.message
    with silent_port() as port:
        pass
    gone = harvest("--server", f"http://127.0.0.1:{port}", listed)
    assert gone.code == 1
    assert f"http://127.0.0.1:{port} does not answer" in gone.message


@pytest.mark.parametrize(
    "address", ["localhost:8931", "nonsense", "", "ftp://a.example", "https://", "https://me:x@a.example", "http://a:b"]
)
def test_an_invalid_server_address_is_refused_at_once(address: str, listed: Path) -> None:
    ended = harvest("--server", address, listed)
    assert (ended.code, ended.events) == (1, [])
    assert "such as https://books.example" in ended.message


@pytest.mark.slow
def test_all_spellings_of_an_address_share_one_checkpoint(server: ServerDouble, listed: Path) -> None:
    assert through(server, listed, "--limit", "2").code == 0
    ended = harvest("--server", server.url.replace("http", " HTTP") + "/", listed, "--resume")
    assert (ended.code, ended.summary["done"], len(server.asked)) == (0, 3, 6)
    assert server_address("https://Books.Example:443/") == "https://books.example"
    assert server_address("http://[::1]:8000/below//") == "http://[::1]:8000/below"


@pytest.mark.parametrize("key", ["secret\nwords", "secr\u00e9t", "secret words", "secret\0", " "])
def test_an_invalid_key_is_refused_and_never_shown(key: str, server: ServerDouble) -> None:
    ended = through(server, "--check-quota", "--api-key", key)
    assert (ended.code, ended.events) == (1, [])
    assert "API key is not valid" in ended.message
    assert "secr" not in ended.message
    assert through(server, "--check-quota", "--api-key", f" {KEY}\n").code == 0


def test_a_missing_key_or_checkpoint_is_named(
    server: ServerDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "does not accept the API key" in through(server, "--check-quota", "--api-key", "wrong").message
    assert "or the --checkpoint" in through(server, "--resume").message
    assert "There is no checkpoint" in through(server, "--resume", "--checkpoint", tmp_path / "none").message
    monkeypatch.delenv("ALEXANDRIA_API_KEY")
    assert "ALEXANDRIA_API_KEY" in through(server, "--check-quota").message


@pytest.mark.slow
def test_the_quota_is_what_the_consumer_of_the_key_can_take(server: ServerDouble) -> None:
    server.allowance = {"free": 7, "limited_by": "daily_budget"}
    out = StringIO()
    call_command("bulk_author_harvest", "--server", server.url, "--check-quota", stdout=out)
    assert "7 free for this harvest; resets at 2026-05-06 00:00 UTC." in out.getvalue()
    ended = through(server, "--check-quota")
    assert (ended.code, ended.events[0]["free"], ended.events[0]["why_none"]) == (0, 7, "")
    server.allowance["free"] = 0
    ended = through(server, "--check-quota")
    assert (ended.code, ended.message) == (2, "No call is free for this harvest. Limited by daily_budget.")
    server.allowance, server.left = None, 0
    assert through(server, "--check-quota").code == 2


@pytest.mark.slow
def test_tiers_come_from_the_server(server: ServerDouble) -> None:
    ended = through(server, "--tier", "top-100", "--max-pages", "1")
    assert [each["name"] for each in ended.named("author")] == ["Agatha Christie", "Nora Roberts", "Adam Silvera"]
    assert through(server, "--tier", "top-100", "--resume").named("author") == []
    assert through(server, "--tier", "5000-20000").message == "The list has no author name in it."


@pytest.mark.parametrize(
    "content", [b"name,born\nFrank Herbert,1920\n", b"\xff\xfeN\0\n\0", b'{"key": 1}\n', b"7\n", b""]
)
def test_a_file_that_is_not_a_checkpoint_stays_unchanged(content: bytes, server: ServerDouble, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    for way in (["--resume"], ["--restart"], ["--resume", "--dry-run"], []):
        ended = through(server, "--author", "Nora Roberts", "--checkpoint", path, *way)
        assert ended.code == 1
        assert "mine.csv is not a checkpoint of a bulk harvest" in ended.message
    assert (path.read_bytes(), server.asked) == (content, [])


@pytest.mark.slow
def test_a_checkpoint_survives_a_torn_line_and_a_damaged_one_is_refused(
    server: ServerDouble, listed: Path, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    server.left = 3
    assert through(server, listed, "--checkpoint", path).code == 2
    server.left = 1000
    with path.open("a") as file:
        file.write('{"position": 2, "state": "do')
    assert through(server, listed, "--checkpoint", path, "--resume", "--limit", "1").summary["calls"] == 4
    with path.open("a") as file:
        file.write('{"position": 99, "state": "done"}\n')
    damaged = through(server, listed, "--checkpoint", path, "--resume")
    assert damaged.code == 1
    assert "is damaged. It stays unchanged" in damaged.message
    assert through(server, listed, "--checkpoint", tmp_path).code == 1


@pytest.mark.slow
def test_kill_9_and_a_second_process_without_any_database(server: ServerDouble, listed: Path, tmp_path: Path) -> None:
    nowhere = "postgres://nobody:none@127.0.0.1:1/none"
    environment = {**os.environ, "DATABASE_URL": nowhere, "REDIS_URL": "redis://127.0.0.1:1/0"}
    enrich = server.enrich
    killed: list[tuple[int, str]] = []

    def kill_on_the_third(body):
        answer = enrich(body)
        if len(server.asked) == 3 and not killed:
            copy = subprocess.run(
                [*COMMAND, "--server", server.url, str(listed), "--resume"],
                env=environment, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            killed.append((copy.returncode, copy.stderr))
            process.kill()
        return answer

    server.enrich = kill_on_the_third
    process = start("--server", server.url, listed, environment=environment)
    with process:
        process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    [(code, message)] = killed
    assert code == 4
    assert f"Process {process.pid} on " in message

    ended = subprocess.run(
        [*COMMAND, "--server", server.url, str(listed), "--resume", "--json"],
        env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert json.loads(ended.stdout.splitlines()[-1])["done"] == 3
    christie = [("Agatha Christie", page) for page in (1, 2, 3)]
    assert server.asked == [*christie, christie[2], ("Nobody", 1), ("Adam Silvera", 1), ("Nora Roberts", 1)]
