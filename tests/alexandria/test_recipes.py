"""The recipes of docs/api.md, in Python, JavaScript and shell, work with a live server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from alexandria.development.sandbox.server import Sandbox
from alexandria.env import BASE_DIR
from enrichment.api.jobs import InOrder
from enrichment.jobs.workers import run_job
from enrichment.models import Edition, Job
from tests.alexandria.serving import until
from tests.alexandria.test_docs import blocks
from tests.fixtures import known_isbns, unknown_isbns

pytestmark = pytest.mark.slow

ISBNS = known_isbns(3)
[UNKNOWN] = unknown_isbns(1)


def recipe(kind: str) -> str:
    [found] = [block.text for block in blocks(BASE_DIR / "docs" / "api.md") if block.info == kind]
    return found


def started(command: list[str], folder: Path, live_server: Any, key: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"URL": live_server.url, "KEY": key}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def printed(program: "subprocess.Popen[str]", *, warns: str = "") -> list[str]:
    out, errors = program.communicate(timeout=60)
    assert (program.returncode, errors) == (0, warns)
    return out.splitlines()


def missing(program: str) -> bool:
    """Whether it is not installed. In CI it must be."""
    return shutil.which(program) is None and "CI" not in os.environ


def test_python_gets_the_books_of_isbns(live_server, sandbox: Sandbox, key: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.py").write_text(recipe("python"))
    command = [sys.executable, "recipe.py", ISBNS[0], "439023483", UNKNOWN]
    lines = printed(started(command, tmp_path, live_server, key))
    title = Edition.objects.get(pk=ISBNS[0]).title
    assert lines == [f"{ISBNS[0]}\t{title}", "439023483\twrong length", f"{UNKNOWN}\tunknown"]


def test_python_waits_for_a_limit_that_passes(live_server, sandbox: Sandbox, key: str, tmp_path: Path) -> None:
    """The service is too busy for a moment: the first request is refused, and the second one is not."""
    refusals = iter([503])
    server = live_server.thread.httpd

    def refuse_first(environ: dict[str, Any], start_response: Any) -> Any:
        if next(refusals, None):
            start_response("503 Service Unavailable", [("Retry-After", "0")])
            return [b'{"detail": "The service is busy."}']
        return application(environ, start_response)

    application = server.get_app()
    server.set_app(refuse_first)
    (tmp_path / "recipe.py").write_text(recipe("python"))
    program = started([sys.executable, "recipe.py", UNKNOWN], tmp_path, live_server, key)
    lines = printed(program, warns="The service is busy. Waiting 0 seconds.\n")
    assert lines == [f"{UNKNOWN}\tunknown"]
    assert list(refusals) == []


@pytest.mark.skipif(missing("node"), reason="node is not installed")
def test_javascript_keeps_a_copy(live_server, sandbox: Sandbox, api: APIClient, key: str, tmp_path: Path) -> None:
    api.post("/api/enrich/batch-direct", ISBNS, format="json")
    (tmp_path / "recipe.mjs").write_text(recipe("js"))
    lines = printed(started(["node", "recipe.mjs"], tmp_path, live_server, key))
    stored = Edition.objects.order_by("updated_at", "isbn13")
    assert lines == [f"{book.isbn13}\t{book.title}" for book in stored]
    assert len(lines) == len(ISBNS)


@pytest.mark.skipif(missing("curl"), reason="curl is not installed")
def test_shell_gets_the_books_of_a_file(
    live_server, sandbox: Sandbox, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InOrder, "page_size", 2)
    (tmp_path / "books.csv").write_text("\n".join(["ISBN", *ISBNS]))
    (tmp_path / "books.ndjson").write_text("of the run before\n")
    program = started(["sh", "-c", recipe("sh recipe")], tmp_path, live_server, key)

    def ends() -> bool:
        run_job()  # as a worker does
        return program.poll() is not None

    until(ends)
    assert printed(program) == []
    items = [json.loads(line) for line in (tmp_path / "books.ndjson").read_text().splitlines()]
    assert [(item["isbn13"], item["state"]) for item in items] == [(isbn, "stored") for isbn in ISBNS]


@pytest.mark.skipif(missing("curl"), reason="curl is not installed")
def test_shell_ends_with_the_reason_when_a_request_fails(live_server, key: str, tmp_path: Path) -> None:
    (tmp_path / "books.csv").write_text(ISBNS[0])
    program = started(["sh", "-c", recipe("sh recipe")], tmp_path, live_server, f"{key}x")
    out, errors = program.communicate(timeout=60)
    assert (program.returncode, out) == (1, "")
    assert '"code":"authentication_failed"' in errors


@pytest.mark.skipif(missing("curl"), reason="curl is not installed")
def test_shell_ends_with_the_reason_when_the_job_does_not_succeed(
    live_server, api: APIClient, key: str, tmp_path: Path
) -> None:
    (tmp_path / "books.csv").write_text(ISBNS[0])
    program = started(["sh", "-c", recipe("sh recipe")], tmp_path, live_server, key)
    until(Job.objects.exists)
    api.post(f"/api/jobs/{Job.objects.get().pk}/pause")
    out, errors = program.communicate(timeout=60)
    assert (program.returncode, out) == (1, "")
    assert '"state":"paused"' in errors
    assert not (tmp_path / "books.ndjson").exists()
