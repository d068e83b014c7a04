"""The stack that `manage.py run` starts and stops, with real processes."""

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from django.core.management import CommandError, call_command

from alexandria.development import stack
from alexandria.development.embedded import servers
from alexandria.development.embedded.files import try_lock
from alexandria.env import BASE_DIR
from tests.alexandria.conftest import NOTHING_SET

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def migrated() -> Iterator[Path]:
    """A data folder in which the services have run and the tables exist. Creating one takes seconds of CPU time."""
    top = Path(tempfile.mkdtemp(prefix="alx-"))
    folder = top / "data"
    servers.start(folder=folder)
    environment = {**os.environ, **NOTHING_SET, "ALEXANDRIA_DATA_DIR": str(folder)}
    urls = {"DATABASE_URL": servers.database_url(folder), "REDIS_URL": servers.redis_url(folder)}
    try:
        subprocess.run([*stack.MANAGE, "migrate", "--verbosity", "0"], env=environment | urls, check=True)
    finally:
        servers.stop(folder=folder)
    yield folder
    shutil.rmtree(top)


@pytest.fixture
def used_home(home: Path, migrated: Path) -> Path:
    """A data folder as an earlier run leaves it."""
    subprocess.run(["cp", "-a", str(migrated), str(home)], check=True)  # it keeps the owner, too
    return home


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
    return {each.service for each in servers.status(home) if each.running}


def status_of(url: str) -> int:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_stack_works_from_any_folder_and_leaves_only_earlier_services(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    servers.start(["redis"], home)
    (home / stack.METRICS).mkdir()
    (home / stack.METRICS / "counter_of-another-run-1.db").touch()
    handlers = [signal.getsignal(number) for number in stack.ENDS]

    with (
        (tmp_path / "output").open("w") as output,
        stack.running(data_dir=home, environment=NOTHING_SET, output=output) as it,
    ):
        assert status_of(it.base_url) == 200
        assert it.base_url.startswith("http://127.0.0.1:")
        assert len([line for line in processes_of(home) if "gunicorn" in line]) >= 3, "a master, two workers"
        assert running(home) == {"postgres", "redis"}
        measured = {path.name for path in (home / stack.METRICS).iterdir()}
        assert measured
        assert "counter_of-another-run-1.db" not in measured
        assert it.manage("version").startswith("5.2")
        with pytest.raises(stack.StackError, match="no_such_command"):
            it.manage("no_such_command")
        with pytest.raises(stack.StackError, match="already running"), stack.running(data_dir=home):
            pass
        web = next(each for each in it.processes if each.name == "web")
        web.popen.kill()
        with pytest.raises(stack.StackError, match=r"web ended with exit code -9"):
            it.wait()

    assert processes_of(home) == []
    assert running(home) == {"redis"}
    assert re.search(r"^\d\d:\d\d:\d\d worker +\| ", (tmp_path / "output").read_text(), re.MULTILINE)
    assert [signal.getsignal(number) for number in stack.ENDS] == handlers


def test_a_process_that_fails_to_start_is_named_and_everything_stops(used_home: Path) -> None:
    environment = {**NOTHING_SET, "GUNICORN_CMD_ARGS": "--worker-class=several"}
    with (
        pytest.raises(stack.StackError, match=r"(?s)web ended.*several"),
        stack.running(data_dir=used_home, environment=environment),
    ):
        pass

    assert (processes_of(used_home), running(used_home)) == ([], set())


def test_a_used_port_is_named_before_anything_starts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALEXANDRIA_DATA_DIR", str(home))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"Port {port} cannot be used"):
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
    process = stack.Process("child", f'sh -c "{ending}"', environment, lambda name, line: ready.set(), lambda pid: None)
    process.start()
    assert ready.wait(timeout=60)

    process.ask_to_end()
    process.end()
    assert processes_of(home) == []


@contextmanager
def started_run(
    home: Path, before: Sequence[str] = (), stdin: int = subprocess.DEVNULL
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`manage.py run` and its output until it was ready. `before` is the command that starts it, if it is another."""
    run = subprocess.Popen(
        before or [sys.executable, str(BASE_DIR / "manage.py"), "run"],
        env={**os.environ, **NOTHING_SET, "ALEXANDRIA_DATA_DIR": str(home), "PORT": "0", "WEB_CONCURRENCY": "1"},
        cwd=BASE_DIR,
        stdin=stdin,
        start_new_session=True,
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


def send_the_printed_request(text: str) -> None:
    if shutil.which("curl"):
        line = text[text.index("curl ") :].splitlines()[0]
        answer = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True)
        counts = json.loads(answer.stdout)
        assert counts["found"] + counts["already_fresh"] == 3


def run_commands_in_the_printed_shell(text: str) -> None:
    line = text[text.index("In a shell ") :].splitlines()[0].removeprefix("In a shell ")
    line += f"; {shlex.join([*stack.MANAGE, 'isbndb_key'])}"
    asked = subprocess.run(["/bin/sh", "-c", line], env=NOTHING_SET, capture_output=True, text=True, check=True)
    assert re.match(r"ISBNdb counts (\d+) calls? of 15,000; we count \1\.", asked.stdout)
    line = line.replace("isbndb_key", "embedded down")
    refused = subprocess.run(["/bin/sh", "-c", line], env=NOTHING_SET, capture_output=True, text=True, check=False)
    assert (refused.returncode, "Stop it with Ctrl-C" in refused.stderr) == (1, True)


def test_run_prints_working_addresses_and_keys_and_exits_with_0(used_home: Path) -> None:
    printed = []
    for number in (signal.SIGTERM, signal.SIGHUP):
        with started_run(used_home) as (run, text):
            printed.append(re.findall(r"(?:API key +|user admin, password )(\S+)", text))
            assert len(printed[-1]) == 2, text
            send_the_printed_request(text)
            if number == signal.SIGHUP:  # in the second run, where both counts have to include the first
                run_commands_in_the_printed_shell(text)
            run.send_signal(number)
            rest = run.stdout.read() if run.stdout else ""
        assert run.returncode == 0, rest
        assert re.search(r"Stopping …(?s:.*)Stopped\.\n$", rest)
        assert (used_home / "password").read_text() not in text + rest
        assert (processes_of(used_home), running(used_home)) == ([], set())

    assert printed[0] == printed[1]


def test_make_run_exits_with_0_and_no_error_on_ctrl_c(used_home: Path) -> None:
    keyboard, terminal = os.openpty()
    take_terminal = "import fcntl, os, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
    make = [sys.executable, "-c", f"{take_terminal}; os.execvp('make', ['make', '--assume-old=setup', 'run'])"]
    with started_run(used_home, make, stdin=terminal) as (run, _):
        os.write(keyboard, b"\x03")
        rest = run.stdout.read() if run.stdout else ""
    os.close(keyboard)
    os.close(terminal)
    assert run.returncode == 0, rest
    assert "***" not in rest
    assert "Stopped." in rest
    assert (processes_of(used_home), running(used_home)) == ([], set())


def test_a_killed_run_leaves_nothing_behind_and_another_can_start(used_home: Path) -> None:
    with started_run(used_home) as (run, text):
        assert "Ctrl-C" in text, text
        run.kill()
        rest = run.stdout.read() if run.stdout else ""  # until the last that holds the pipe has ended
    assert run.returncode == -signal.SIGKILL
    assert "was killed. Stopping its processes." in rest
    assert (processes_of(used_home), running(used_home)) == ([], set())
    lock = try_lock(used_home / "stack.lock")
    assert lock is not None
    os.close(lock)


@pytest.mark.parametrize(("port", "message"), [("65536", "0 to 65535"), ("-1", "0 to 65535"), ("web", "0 to 65535")])
def test_an_invalid_port_is_refused(port: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("run", f"--port={port}")
