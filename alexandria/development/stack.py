"""All of Alexandria on one machine: what `manage.py run` and `manage.py demo` start, use and stop."""

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
from alexandria.development.process_reaper import Guard
from alexandria.env import BASE_DIR
from alexandria.monitoring import multiprocess

LOOPBACK = "127.0.0.1"
SECONDS_TO_START = 60
SECONDS_TO_END = 15
MANAGE = (sys.executable, str(BASE_DIR / "manage.py"))
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
METRICS = "metrics"  # in the data folder; what the processes of one run measure
LOCK = "stack.lock"  # in the data folder; whoever runs a stack there holds it
SANDBOX_READY = re.compile(r"(?P<address>http://\S+).*\s(?P<key>\S+)")

Show = Callable[[str, str], None]  # gets the name of a process and a line of it
Watch = Callable[[int], None]  # gets the id of a process
Found = TypeVar("Found")


class StackError(Exception):
    """A part of the stack does not start or has ended; the message says which, with its last lines."""


class Process(threading.Thread):
    """A shell command in a session of its own; a thread starts it, where no signal can interrupt that, and reads it.

    `watch` is told its id as soon as it runs; `show` gets its lines.
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
        """Waits for the end and kills, after SECONDS_TO_END, whatever is left of the session."""
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(SECONDS_TO_END)
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.join(timeout=5)


@dataclass(frozen=True)
class Stack:
    """A running stack: the address of its web process, without a slash at the end, and the environment of them all."""

    base_url: str
    environment: Mapping[str, str]
    processes: Sequence[Process]

    def manage(self, *arguments: str) -> str:
        """Runs a command of manage.py beside the stack; returns its stdout, raises StackError with its stderr."""
        return _manage(self.environment, *arguments)

    def wait(self) -> None:
        """Waits until a process ends by itself, and raises StackError then."""
        while True:
            for process in self.processes:
                process.check()
            time.sleep(0.2)


@contextmanager
def running(
    *, data_dir: Path, port: int = 0, environment: Mapping[str, str] | None = None, output: TextIO | None = None
) -> Iterator[Stack]:
    """Starts everything, gives the Stack once it answers, and leaves no process behind, however the block ends.

    `data_dir` keeps the data of the embedded services and of the sandbox; `port` 0 takes a free one; `environment` is
    added to ours; `output` gets the lines of the processes. Embedded services that ran before stay. For the main thread
    only: SIGTERM and SIGHUP become KeyboardInterrupt meanwhile. Raises StackError and embedded.EmbeddedError.
    """
    data_dir = data_dir.resolve()
    servers.private_folder(data_dir)
    lock = try_lock(data_dir / LOCK)
    if lock is None:
        raise StackError(f"It runs already: another process uses {data_dir}.")
    try:
        settings = _environment(data_dir, _claim(port), environment or {})
        with _interruptible(), _started(settings, data_dir, lock, _printer(output)) as processes:
            yield Stack(f"http://{LOOPBACK}:{settings['PORT']}", settings, processes)
    finally:
        os.close(lock)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Every signal that asks for an end is a KeyboardInterrupt, but a SIGHUP that nohup has had ignored stays so."""
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
    """Starts everything and stops it, in which nothing but `kill -9` interrupts it; and then there is the guard."""
    running = {service.service for service in servers.status(data_dir) if service.running}
    services = set(servers.VARIABLES) - running
    guard = Guard(data_dir, services, lock)
    processes: list[Process] = []
    try:
        _start(settings, data_dir, processes, show, guard.watch)
        yield processes
    finally:
        for number in ENDS:
            signal.signal(number, signal.SIG_IGN)
        show("run", "Stopping …")
        _end(processes)
        servers.stop(services, data_dir)
        guard.dismiss()
        show("run", "Stopped.")


def _claim(port: int) -> int:
    """The port, or a free one for 0. Raises StackError when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise StackError(
                f"Port {port} is taken: {error.strerror}. Choose another with --port, or PORT=… make run."
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
    """Starts services, sandbox and the Procfile's processes in turn; adds to `settings` where they are."""
    shutil.rmtree(data_dir / METRICS, ignore_errors=True)
    missing = [name for name, variable in servers.VARIABLES.items() if not settings.get(variable)]
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
        contract = [f"{option}={value}" for option, value in limits.items() if value]
        state = f"--state-file={data_dir / 'sandbox.json'}"
        sandbox = launch("sandbox", shlex.join([*MANAGE, "isbndb_sandbox", "--port=0", state, *contract]))
    _manage(settings, "migrate", "--verbosity", "0")
    if sandbox:
        ready = _wait_for(lambda: SANDBOX_READY.search("".join(sandbox.lines)), processes)
        settings |= {"ISBNDB_BASE_URL": ready["address"], "ISBNDB_API_KEY": ready["key"]}
    procfile = parse_procfile((BASE_DIR / "Procfile").read_text())
    for name, command in procfile.processes.items():
        launch(name, command)
    _wait_for(lambda: _lives(int(settings["PORT"])), processes)


def _end(processes: Sequence[Process]) -> None:
    """Ends all of them at once, but the sandbox last: requests that are on their way still need it."""
    for ending in ([each for each in processes if each.name != "sandbox"], processes):
        for process in ending:
            process.ask_to_end()
        for process in ending:
            process.end()


def _wait_for(condition: Callable[[], Found | None], processes: Sequence[Process]) -> Found:
    """What `condition` returns once that is true; StackError when a process ends first or the time is over."""
    deadline = time.monotonic() + SECONDS_TO_START
    while not (found := condition()):
        for process in processes:
            process.check()
        if time.monotonic() > deadline:
            raise processes[-1].failure(f"is not ready after {SECONDS_TO_START} seconds")
        time.sleep(0.05)
    return found


def _lives(port: int) -> bool:
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
    """A function that prints a line behind the time and the name of its process, coloured on a terminal."""
    if output is None:
        return lambda name, line: None
    printer = Printer(output, width=len("sandbox"))
    colours = dict(zip(("sandbox", "web", "worker", "beat", "jobs"), get_colours(), strict=False))
    lock = threading.Lock()

    def show(name: str, line: str) -> None:
        with lock, suppress(OSError):  # a terminal that was closed
            printer.write(Message("line", line, datetime.now(), name, colours.get(name)))  # noqa: DTZ005 - for people here

    return show
