"""The processes of the service, started again when they end, as systemd does with Restart=always."""

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from honcho.environ import parse_procfile

from alexandria.development.stack import Process
from alexandria.env import BASE_DIR

RESTART_SECONDS = 1.0
HARVEST_IS_OVER = {0, 3}
"""Exit codes of a bulk harvest that is done, with or without failed authors."""

Say = Callable[[str], None]
Watch = Callable[[int], None]


class Service(threading.Thread):
    """One process with what it forks. When it ends, what is left of it is killed, and it starts again.

    `ends_with`: the exit codes after which it does not start again. `name`.log in `logs` gets its output.
    """

    def __init__(
        self,
        name: str,
        command: str,
        environment: Mapping[str, str],
        *,
        logs: Path,
        watch: Watch,
        say: Say,
        ends_with: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.command, self.environment, self.ends_with = command, environment, ends_with
        self.log = logs / f"{name}.log"
        self.watch, self.say = watch, say
        self.starts = 0
        self.process: Process | None = None
        self.killed: set[int] = set()
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            code = self._run_once()
            if code in self.ends_with or self.stopping.is_set():
                return
            pid = self.pid
            if pid and pid not in self.killed:
                self.say(f"{self.name} (process {pid}) ended by itself with exit code {code}")
            self.stopping.wait(RESTART_SECONDS)

    def _run_once(self) -> int:
        with self.log.open("a") as log:

            def write(_: str, line: str) -> None:
                log.write(line)
                log.flush()

            self.process = Process(self.name, self.command, self.environment, write, self.watch)
            self.process.start()
            self.process.started.wait()
            self.starts += 1
            code = self.process.popen.wait()
            with suppress(ProcessLookupError):
                os.killpg(self.process.popen.pid, signal.SIGKILL)
            self.process.join(timeout=5)
            return code

    @property
    def pid(self) -> int:
        """The id of its newest process, which may have ended."""
        if self.process is None:
            return 0
        self.process.started.wait()
        return self.process.popen.pid

    def kill(self, *, child: bool, choice: float) -> str:
        """Kills it, or a process that it has forked, as `kill -9` does. Returns what was killed, "" for nothing."""
        pid = self.pid
        with suppress(psutil.NoSuchProcess):
            if child and pid:
                children = sorted(each.pid for each in psutil.Process(pid).children())
                pid = children[int(choice * len(children))] if children else pid
            if pid and pid not in self.killed:
                self.killed.add(pid)
                psutil.Process(pid).kill()
                return f"process {pid}"
        return ""

    def stop(self) -> None:
        """Ends it for good, with SIGTERM first."""
        self.stopping.set()
        if self.process is not None:
            self.process.ask_to_end()

    def wait_for_end(self) -> None:
        if self.process is not None:
            self.process.end()
        self.join(timeout=5)


class Fleet:
    """All services of the Procfile. `watch` gets the id of each process."""

    def __init__(self, environment: Mapping[str, str], *, logs: Path, watch: Watch, say: Say) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        self.environment = {**environment, "PATH": path}
        self.logs, self.watch, self.say = logs, watch, say
        self.services: dict[str, Service] = {}

    def start(self) -> None:
        for name, command in parse_procfile((BASE_DIR / "Procfile").read_text()).processes.items():
            self._add(name, command)

    def start_harvest(self, authors: Path) -> None:
        """Starts the bulk harvest of a list. It starts again until it is done."""
        words = [sys.executable, str(BASE_DIR / "manage.py"), "bulk_author_harvest", str(authors), "--wait", "--resume"]
        self._add("harvest", shlex.join(words), ends_with=frozenset(HARVEST_IS_OVER))

    def harvest_is_over(self) -> bool:
        return not self.services["harvest"].is_alive()

    def kill(self, what: str, choice: float) -> str:
        """Kills one of `plan.KILLS`; a child that is not there yet with its parent. Returns what was killed.

        Waits for a process that is just starting again.
        """
        name, _, child = what.partition(" ")
        while True:
            if killed := self.services[name].kill(child=bool(child), choice=choice):
                return killed
            time.sleep(0.1)

    def stop(self) -> None:
        for service in self.services.values():
            service.stop()
        for service in self.services.values():
            service.wait_for_end()

    def _add(self, name: str, command: str, ends_with: frozenset[int] = frozenset()) -> None:
        service = Service(
            name,
            command,
            self.environment,
            logs=self.logs,
            watch=self.watch,
            say=self.say,
            ends_with=ends_with,
        )
        self.services[name] = service
        service.start()
