"""All of Alexandria on one machine: `manage.py run` and `manage.py demo` start, use and stop it."""

import http.client
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TextIO, TypeVar

from honcho.colour import get_colours
from honcho.environ import parse_procfile
from honcho.printer import Message, Printer

from alexandria.development.embedded import servers
from alexandria.development.embedded.files import try_lock
from alexandria.development.process_reaper import ProcessReaper
from alexandria.env import BASE_DIR
from alexandria.monitoring import multiprocess

LOOPBACK = "127.0.0.1"
SECONDS_TO_START = 60
SECONDS_TO_END = 15
MANAGE = (sys.executable, str(BASE_DIR / "manage.py"))
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
METRICS = "metrics"  # a folder in the data folder, for the metrics of the processes of one run
LOCK = "stack.lock"  # a file in the data folder; a running stack holds the lock
SANDBOX_READY = re.compile(r"(?P<address>http://\S+).*\s(?P<key>\S+)")

Show = Callable[[str, str], None]  # takes the name of a process and a line of its output
Watch = Callable[[int], None]  # takes the id of a process
Found = TypeVar("Found")


class StackError(Exception):
    """A part of the stack does not start, or has ended. The message names it and has its last lines."""


class Process(threading.Thread):
    """A shell command in its own session. A thread starts it and reads its output, so no signal can interrupt that.

    `watch` gets its id as soon as it runs. `show` gets its lines.
    """

    def __init__(self, name: str, command: str, environment: Mapping[str, str], show: Show, watch: Watch) -> None:
        super().__init__(name=name, daemon=True)
        self.command = command
        self.environment = environment
        self.show = show
        self.watch = watch
        self.lines: deque[str] = deque(maxlen=25)
        self.started = threading.Event()
        self.popen: subprocess.Popen[str]

    def run(self) -> None:
        with subprocess.Popen(
            ["/bin/sh", "-c", f"exec {self.command}"],
            cwd=BASE_DIR,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as self.popen:
            self.watch(self.popen.pid)
            self.started.set()
            for line in self.popen.stdout or ():
                self.lines.append(line)
                self.show(self.name, line)

    def check(self) -> None:
        """Raises StackError when the process has ended."""
        self.started.wait()
        if (code := self.popen.poll()) is not None:
            self.join(timeout=1)
            raise self.failure(f"ended with exit code {code}")

    def failure(self, what: str) -> StackError:
        return StackError(f"{self.name} {what}. Its last lines:\n{''.join(self.lines)}")

    def ask_to_end(self) -> None:
        self.started.wait()
        self.popen.terminate()

    def end(self) -> None:
        """Waits SECONDS_TO_END at most, then kills everything that is left of the session."""
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(SECONDS_TO_END)
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.join(timeout=5)


@dataclass(frozen=True)
class Stack:
    """A running stack: the URL of its web process, without a slash at the end, and the environment of its processes."""

    base_url: str
    environment: Mapping[str, str]
    processes: Sequence[Process]

    def manage(self, *arguments: str) -> str:
        """Runs a command of manage.py in the stack's environment. Returns stdout; raises StackError with stderr."""
        return _manage(self.environment, *arguments)

    def wait(self) -> None:
        """Waits until a process ends by itself, then raises StackError."""
        while True:
            for process in self.processes:
                process.check()
            time.sleep(0.2)


@contextmanager
def running(
    *,
    data_dir: Path,
    port: int = 0,
    environment: Mapping[str, str] | None = None,
    output: TextIO | None = None,
    show: Show | None = None,
) -> Iterator[Stack]:
    """Starts everything, yields the Stack once it answers, and leaves no process behind, however the block ends.

    `data_dir` has the data of the embedded services and of the sandbox. `port` 0 takes a free port. `environment` is
    added to ours. `output` gets the lines of the processes, and `run` says there what is done; `show` takes them
    instead. Embedded services that were already running stay. Use it in the main thread only: within the block SIGTERM
    and SIGHUP raise KeyboardInterrupt. Raises StackError and EmbeddedError.
    """
    data_dir = data_dir.resolve()
    servers.private_folder(data_dir)
    lock = try_lock(data_dir / LOCK)
    if lock is None:
        raise StackError(f"The stack is already running: another process uses {data_dir}. Stop it first.")
    try:
        settings = _environment(data_dir, _claim(port), environment or {})
        with _interruptible(), _started(settings, data_dir, lock, show or _printer(output)) as processes:
            yield Stack(f"http://{LOOPBACK}:{settings['PORT']}", settings, processes)
    finally:
        os.close(lock)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turns every signal that asks for the end into a KeyboardInterrupt. A SIGHUP that nohup ignores stays ignored."""
    handlers = {number: signal.getsignal(number) for number in ENDS}
    if handlers[signal.SIGHUP] is signal.SIG_IGN:
        del handlers[signal.SIGHUP]
    try:
        for number in handlers:
            signal.signal(number, signal.default_int_handler)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _started(settings: dict[str, str], data_dir: Path, lock: int, show: Show) -> Iterator[list[Process]]:
    """Starts everything and stops it. Only `kill -9` can interrupt the stop; then the process reaper does it."""
    running = {service.service for service in servers.status(data_dir) if service.running}
    services = set(servers.VARIABLES) - running
    reaper = ProcessReaper(data_dir, services, lock)
    processes: list[Process] = []
    try:
        _start(settings, data_dir, processes, show, reaper.watch)
        yield processes
    finally:
        for number in ENDS:
            signal.signal(number, signal.SIG_IGN)
        show("run", "Stopping …")
        _end(processes)
        servers.stop(services, data_dir)
        reaper.dismiss()
        show("run", "Stopped.")


def _claim(port: int) -> int:
    """The port, or a free one for 0. Raises StackError if the port is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise StackError(
                f"Port {port} cannot be used: {error.strerror}. Choose another with --port, or with PORT=… make run."
            ) from error
        return int(probe.getsockname()[1])


def _environment(data_dir: Path, port: int, extra: Mapping[str, str]) -> dict[str, str]:
    environment = {**os.environ, **extra}
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    environment |= {"PATH": path, "PORT": str(port), "BIND": LOOPBACK, "DEBUG": "on", "PYTHONUNBUFFERED": "1"}
    environment["ALEXANDRIA_DATA_DIR"] = str(data_dir)
    environment[multiprocess.VARIABLE] = str(data_dir / METRICS)
    environment["SECRET_KEY"] = environment.get("SECRET_KEY") or servers.kept_secret(data_dir / "secret_key")
    return environment


def _start(settings: dict[str, str], data_dir: Path, processes: list[Process], show: Show, watch: Watch) -> None:
    """Starts the services, the sandbox and the processes of the Procfile. Adds their addresses to `settings`."""
    shutil.rmtree(data_dir / METRICS, ignore_errors=True)
    missing = [name for name, variable in servers.VARIABLES.items() if not settings.get(variable)]
    if missing:
        show("run", f"Starting {' and '.join(missing)} …")
    servers.start(missing, data_dir)
    urls = {"postgres": servers.database_url(data_dir), "redis": servers.redis_url(data_dir)}
    settings |= {servers.VARIABLES[name]: urls[name] for name in missing}

    def launch(name: str, command: str) -> Process:
        process = Process(name, command, dict(settings), show, watch)
        processes.append(process)
        process.start()
        return process

    sandbox = None
    if not settings.get("ISBNDB_API_KEY"):
        limits = {"--daily-limit": settings.get("QUOTA_DAILY_LIMIT"), "--max-rps": settings.get("QUOTA_MAX_RPS")}
        if settings.get("ISBNDB_BATCH_PRICE") != "measure":
            limits["--batch-price"] = settings.get("ISBNDB_BATCH_PRICE")
        contract = [f"{option}={value}" for option, value in limits.items() if value]
        state = f"--state-file={data_dir / 'sandbox.json'}"
        sandbox = launch("sandbox", shlex.join([*MANAGE, "isbndb_sandbox", "--port=0", state, *contract]))
    show("run", "Making the tables …")
    _manage(settings, "migrate", "--verbosity", "0")
    if sandbox:
        ready = _wait_for(lambda: SANDBOX_READY.search("".join(sandbox.lines)), processes)
        settings |= {"ISBNDB_BASE_URL": ready["address"], "ISBNDB_API_KEY": ready["key"]}
    procfile = parse_procfile((BASE_DIR / "Procfile").read_text())
    show("run", f"Starting {', '.join(procfile.processes)} …")
    for name, command in procfile.processes.items():
        launch(name, command)
    _wait_for(lambda: _is_alive(int(settings["PORT"])), processes)


def _end(processes: Sequence[Process]) -> None:
    """Ends all processes at once, except the sandbox, which ends last: requests in flight still need it."""
    for ending in ([each for each in processes if each.name != "sandbox"], processes):
        for process in ending:
            process.ask_to_end()
        for process in ending:
            process.end()


def _wait_for(condition: Callable[[], Found | None], processes: Sequence[Process]) -> Found:
    """Waits until `condition` returns a true value. Raises StackError if a process ends first or time runs out."""
    deadline = time.monotonic() + SECONDS_TO_START
    while not (found := condition()):
        for process in processes:
            process.check()
        if time.monotonic() > deadline:
            raise processes[-1].failure(f"is not ready after {SECONDS_TO_START} seconds")
        time.sleep(0.05)
    return found


def _is_alive(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _manage(environment: Mapping[str, str], *arguments: str) -> str:
    result = subprocess.run([*MANAGE, *arguments], env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise StackError(f"manage.py {shlex.join(arguments)} failed:\n{result.stderr or result.stdout}")
    return result.stdout


def _printer(output: TextIO | None) -> Show:
    """A function that prints a line with the time and the name of its process, in colour on a terminal."""
    if output is None:
        return lambda name, line: None
    printer = Printer(output, width=len("sandbox"))
    colours = dict(zip(("sandbox", "web", "worker", "beat", "jobs"), get_colours(), strict=False))
    lock = threading.Lock()

    def show(name: str, line: str) -> None:
        with lock, suppress(OSError):  # the terminal can be closed
            printer.write(Message("line", line, datetime.now(), name, colours.get(name)))  # noqa: DTZ005 - local time for people

    return show
