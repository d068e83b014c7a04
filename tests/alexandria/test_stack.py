"""What `manage.py run` starts and stops, with real processes."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from django.core.management import CommandError, call_command

from alexandria import embedded, stack

# As on a machine with nothing set up: neither the servers of this test run nor a key for ISBNdb.
NOTHING_SET = {"DATABASE_URL": "", "REDIS_URL": "", "ISBNDB_API_KEY": "", "SECRET_KEY": "", "DEBUG": "on"}


@pytest.fixture
def home() -> Iterator[Path]:
    top = Path(tempfile.mkdtemp(prefix="alx-"))
    yield top / "data"
    embedded.stop(folder=top / "data")
    shutil.rmtree(top)


def processes_of(home: Path) -> list[str]:
    """The command lines of living processes that have `home` in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("ALEXANDRIA_DATA_DIR") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def running(home: Path) -> set[str]:
    return {each.service for each in embedded.status(home) if each.running}


def status_of(url: str) -> int:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_stack_answers_from_any_folder_and_leaves_only_what_ran_before(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    embedded.start(["redis"], home)

    with (
        (tmp_path / "output").open("w") as output,
        stack.running(data_dir=home, environment=NOTHING_SET, output=output) as it,
    ):
        assert status_of(it.base_url) == 200
        assert it.base_url.startswith("http://127.0.0.1:")
        assert len([line for line in processes_of(home) if "alexandria.wsgi" in line]) >= 3, "a master, two workers"
        assert running(home) == {"postgres", "redis"}
        assert it.manage("version").startswith("5.2")
        with pytest.raises(stack.StackError, match="no_such_command"):
            it.manage("no_such_command")
        with pytest.raises(stack.StackError, match="runs already"), stack.running(data_dir=home):
            pass
        web = next(each for each in it.processes if each.name == "web")
        web.popen.kill()
        with pytest.raises(stack.StackError, match=r"web ended with exit code -9"):
            it.wait()

    assert processes_of(home) == []
    assert running(home) == {"redis"}
    assert re.search(r"^\d\d:\d\d:\d\d beat +\| ", (tmp_path / "output").read_text(), re.MULTILINE)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_process_that_dies_at_the_start_is_named_and_nothing_stays(home: Path) -> None:
    environment = {**NOTHING_SET, "WEB_CONCURRENCY": "several"}
    with (
        pytest.raises(stack.StackError, match=r"(?s)web ended.*several"),
        stack.running(data_dir=home, environment=environment),
    ):
        pass

    assert (processes_of(home), running(home)) == ([], set())


def test_a_port_that_is_taken_is_named_before_anything_starts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALEXANDRIA_DATA_DIR", str(home))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"Port {port} is taken"):
            call_command("run", port=port)

    assert (processes_of(home), running(home)) == ([], set())


@pytest.mark.parametrize(
    "ending", ["trap '' TERM; sleep 1000 & echo ready; sleep 1000", "sleep 1000 & echo ready; exit"]
)
def test_a_process_that_does_not_end_is_killed_with_its_children(
    home: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "SECONDS_TO_END", 0.3)
    ready = threading.Event()
    environment = {**os.environ, "ALEXANDRIA_DATA_DIR": str(home)}
    process = stack.Process("child", f'sh -c "{ending}"', environment, lambda name, line: ready.set())
    process.start()
    assert ready.wait(timeout=60)

    process.ask_to_end()
    process.end()
    assert processes_of(home) == []


@contextmanager
def started_run(home: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`manage.py run` and what it printed until it was ready."""
    run = subprocess.Popen(
        [sys.executable, str(embedded.BASE_DIR / "manage.py"), "run", "--port", "0"],
        env={**os.environ, **NOTHING_SET, "ALEXANDRIA_DATA_DIR": str(home)},
        cwd=home.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(120, run.terminate)  # so that a run that says nothing fails instead of hanging
    watchdog.start()
    with run:
        try:
            lines = []
            for line in run.stdout or ():
                lines.append(line)
                if "Ctrl-C" in line:
                    break
            yield run, "".join(lines)
        finally:
            watchdog.cancel()
            run.terminate()


def test_run_prints_what_works_the_same_every_time_and_ends_with_0_when_interrupted(home: Path) -> None:
    printed = []
    for number in (signal.SIGINT, signal.SIGTERM):
        with started_run(home) as (run, text):
            printed.append(re.findall(r"(?:API key +|user admin, password )(\S+)", text))
            assert len(printed[-1]) == 2, text
            if shutil.which("curl"):
                line = text[text.index("curl ") :].splitlines()[0]
                answer = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True)
                counts = json.loads(answer.stdout)
                assert counts["found"] + counts["already_fresh"] == 3
            run.send_signal(number)
            rest = run.stdout.read() if run.stdout else ""
        assert run.returncode == 0, rest
        assert (processes_of(home), running(home)) == ([], set())

    assert printed[0] == printed[1]
