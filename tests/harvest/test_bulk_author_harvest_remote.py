"""manage.py bulk_author_harvest --server: makes a job at a server and follows it, without a database."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from harvest.bulk import api, remote
from harvest.bulk.server import server_address
from tests.fixtures import silent_port
from tests.harvest.bulk import COMMAND, Ended, a_list, harvest, start
from tests.harvest.server_double import KEY, ServerDouble, serving

BOOKS = {"Agatha Christie": 2432, "Adam Silvera": 9, "Nora Roberts": 66}
CHRISTIE = [("Agatha Christie", page) for page in (1, 2, 3)]
ALL_PAGES = [*CHRISTIE, ("Nobody", 1), ("Adam Silvera", 1), ("Nora Roberts", 1)]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(remote, "POLL_SECONDS", (0.0, 0.0))
    monkeypatch.setenv("ALEXANDRIA_API_KEY", KEY)


@pytest.fixture
def server() -> Iterator[ServerDouble]:
    with serving(ServerDouble(BOOKS)) as double:
        yield double


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return a_list(tmp_path, "Agatha Christie", "Nobody", "Adam Silvera", "Nora Roberts")


def through(server: ServerDouble, *arguments: str | Path) -> Ended:
    return harvest("--server", server.url, *arguments)


def test_a_list_is_harvested_at_the_server_without_any_database(server: ServerDouble, listed: Path) -> None:
    """pytest-django blocks the database in a test that does not request it."""
    ended = through(server, listed)
    assert ended.code == 0, ended.message
    assert [(each["name"], each["state"], each["books"], each["calls"]) for each in ended.named("author")] == [
        ("Agatha Christie", "done", 2432, 3),
        ("Nobody", "unknown", 0, 1),
        ("Adam Silvera", "done", 9, 1),
        ("Nora Roberts", "done", 66, 1),
    ]
    assert (ended.summary["new"], ended.summary["books"], ended.summary["calls"]) == (2507, 2507, 6)
    assert server.jobs[0].wanted["label"] == "authors.txt"
    assert through(server, listed, "--resume").named("author") == []
    assert server.asked == ALL_PAGES


def test_a_finished_list_is_asked_again_only_with_again(server: ServerDouble, listed: Path) -> None:
    assert through(server, listed).code == 0
    refused = through(server, listed)
    assert (refused.code, refused.events) == (1, [])
    assert refused.message == "This list was finished on 2026-05-05 12:00 UTC. --again does it."
    assert through(server, listed, "--restart").code == 1
    assert through(server, listed, "--again").code == 0
    assert server.asked == ALL_PAGES * 2


def test_a_used_up_quota_ends_it_with_2_and_resume_continues_exactly_there(server: ServerDouble, listed: Path) -> None:
    server.left = 2
    first = through(server, listed)
    assert (first.code, first.summary["pending"], first.summary["books"]) == (2, 4, 2000)
    assert first.message == "No call is left."
    assert "--resume continues" in through(server, listed).message

    server.left = 1000
    plan = through(server, "--resume", "--dry-run").events[0]
    assert (plan["to_do"], plan["calls_at_least"], plan["calls_at_most"]) == (4, 4, 38)
    assert (plan["ends_at_least"], plan["ends_at_most"]) == ("2026-05-05T12:00:04Z", "2026-05-05T12:00:38Z")
    assert server.jobs[0].state == "failed"
    second = through(server, "--resume")
    assert (second.code, second.summary["calls"]) == (0, 6)
    assert server.asked == ALL_PAGES
    assert through(server, "--resume").message == "There is no stopped harvest at the server."


def test_restart_cancels_a_job_that_has_stopped(server: ServerDouble, listed: Path) -> None:
    assert through(server, listed, "--limit", "1").code == 0
    assert [job.state for job in server.jobs] == ["paused"]
    again = through(server, listed, "--restart")
    assert (again.code, again.summary["done"]) == (0, 3)
    assert [job.state for job in server.jobs] == ["cancelled", "succeeded"]


def test_limit_pauses_the_job_when_so_many_authors_are_done(server: ServerDouble, listed: Path) -> None:
    server.speed = 1
    part = through(server, listed, "--limit", "2")
    assert (part.code, len(part.named("author"))) == (0, 2)
    assert part.summary["ended"] == "--limit: 2 authors left; --resume continues."
    assert server.jobs[0].state == "paused"
    rest = through(server, listed, "--resume")
    assert [each["name"] for each in rest.named("author")] == ["Adam Silvera", "Nora Roberts"]
    assert server.asked == ALL_PAGES


def test_with_wait_the_job_waits_at_the_server(server: ServerDouble, listed: Path) -> None:
    server.left, step = 3, server.step

    def refill(job: Any) -> None:
        step(job)
        if job.state == "waiting" and server.requests[-1].startswith("GET /api/jobs/"):
            server.left += 1000

    server.step = refill
    server.speed = 1
    ended = through(server, listed, "--wait")
    assert (ended.code, server.jobs[0].wanted["on_exhausted"]) == (0, "wait")
    assert ended.named("waiting") == [{"event": "waiting", "limit": "safety_limit", "until": "2026-05-06T00:00:00Z"}]


def test_failed_authors_are_named_and_resume_tries_them_again(server: ServerDouble, listed: Path) -> None:
    server.broken = {"Nobody"}
    ended = through(server, listed)
    assert (ended.code, ended.message) == (3, "1 author failed; --resume tries again.")
    assert (ended.summary["failures"], ended.summary["failed_authors"]) == ({"isbndb_failed": 1}, ["Nobody"])
    server.broken = set()
    again = through(server, listed, "--resume")
    assert (again.code, [each["name"] for each in again.named("author")]) == (0, ["Nobody"])


def test_a_server_that_is_out_of_reach_is_tried_again_and_nothing_is_paid_twice(
    server: ServerDouble, listed: Path
) -> None:
    server.failures = [(503, {"code": "quota_unavailable", "detail": "Our database is away."}, {}), (0, {}, {})]
    create, lost = server.create, iter([True])

    def lose_the_answer(body: dict[str, Any], key: str) -> tuple[int, Any]:
        answer = create(body, key)
        return (502, {}) if next(lost, False) else answer

    server.create = lose_the_answer
    server.failures = server.failures[:1]
    ended = through(server, listed)
    assert ended.code == 0, ended.message
    assert (len(server.jobs), server.asked) == (1, ALL_PAGES)


def test_while_it_follows_a_job_it_says_that_it_tries_again(server: ServerDouble, listed: Path) -> None:
    step = server.step

    def fail_once(job: Any) -> None:
        if len(server.asked) == 3 and not server.failures:
            server.failures = [(503, {"detail": "Our database is away."}, {}), (0, {}, {})]
        step(job)

    server.step = fail_once
    server.speed = 1
    ended = through(server, listed)
    assert ended.code == 0, ended.message
    away, dropped = (each["error"] for each in ended.named("trying_again")[:2])
    assert away == "Our database is away."
    assert "does not answer" in dropped


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ((403, {"code": "consumer_inactive", "detail": "Harvesting is switched off."}, {}), "The server refuses: Harv"),
        ((403, {"code": "permission_denied", "detail": "No."}, {}), "does not accept the API key: No."),
        ((409, {"code": "too_many_jobs", "detail": "20 jobs."}, {}), "The server refuses: 20 jobs."),
        ((422, {"code": "invalid", "detail": "authors: not that."}, {}), "The server refuses: authors: not that."),
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


def test_all_spellings_of_an_address_name_the_same_server(server: ServerDouble, listed: Path) -> None:
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


def test_a_missing_key_or_job_is_named(server: ServerDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not accept the API key" in through(server, "--check-quota", "--api-key", "wrong").message
    assert "There is no stopped harvest at the server" in through(server, "--resume").message
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


@pytest.fixture
def environment() -> dict[str, str]:
    """Of a process without any database."""
    nowhere = "postgres://nobody:none@127.0.0.1:1/none"
    return {**os.environ, "DATABASE_URL": nowhere, "REDIS_URL": "redis://127.0.0.1:1/0"}


@pytest.mark.slow
def test_ctrl_c_pauses_the_job_at_the_server(server: ServerDouble, listed: Path, environment: dict[str, str]) -> None:
    step = server.step

    def interrupt(job: Any) -> None:
        if len(server.asked) == 2:
            process.send_signal(signal.SIGINT)
        step(job)

    server.step, server.speed = interrupt, 1
    process = start("--server", server.url, listed, environment=environment)
    with process:
        out, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "ended: Interrupted. The job is paused at the server; --resume continues it." in out
    assert server.jobs[0].state == "paused"
    server.step = step
    assert through(server, listed, "--resume").code == 0
    assert server.asked == ALL_PAGES


@pytest.mark.slow
def test_after_kill_9_the_job_goes_on_at_the_server_and_resume_follows_it(
    server: ServerDouble, listed: Path, environment: dict[str, str]
) -> None:
    step = server.step

    def kill(job: Any) -> None:
        if len(server.asked) == 3:
            process.kill()
        step(job)

    server.step, server.speed = kill, 1
    process = start("--server", server.url, listed, environment=environment)
    with process:
        process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    server.step = step
    assert server.jobs[0].state == "running"
    copy = through(server, listed)
    assert copy.code == 4
    assert f"The server works on authors.txt (job {server.jobs[0].id}). --resume follows it." in copy.message

    ended = subprocess.run(
        [*COMMAND, "--server", server.url, str(listed), "--resume", "--json"],
        env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert json.loads(ended.stdout.splitlines()[-1])["done"] == 3
    assert server.asked == ALL_PAGES
