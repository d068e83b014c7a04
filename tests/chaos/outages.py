"""Outages of the PostgreSQL and the Redis of a run."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import redis

from alexandria.development.embedded import servers
from alexandria.development.embedded.postgres import Postgres
from alexandria.development.embedded.redis import Redis
from tests.chaos.plan import Event


class Servers:
    """The servers in a data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres, self.redis = Postgres(folder), Redis(folder)

    def suffer(self, event: Event) -> None:
        """Lets an outage happen, and ends it after its time."""
        match event.what:
            case "PostgreSQL stopped at once":
                self._down("postgres", signal.SIGQUIT, event.seconds)
            case "PostgreSQL killed":
                self._down("postgres", signal.SIGKILL, event.seconds)
            case "PostgreSQL frozen":
                with frozen(self._pid("postgres")):
                    time.sleep(event.seconds)
            case "PostgreSQL's session killed":
                self._kill_session(event.choice)
            case "Redis killed":
                self._down("redis", signal.SIGKILL, event.seconds)
            case "Redis frozen":
                with frozen(self._pid("redis")):
                    time.sleep(event.seconds)
            case "Redis emptied":
                with redis.Redis.from_url(self.redis.url()) as client:
                    client.flushall()
            case _:
                raise AssertionError(event.what)

    def _pid(self, name: str) -> int:
        pid = {"postgres": self.postgres, "redis": self.redis}[name].pid()
        assert pid is not None
        return pid

    def _down(self, name: str, number: signal.Signals, seconds: float) -> None:
        os.kill(self._pid(name), number)
        time.sleep(seconds)
        servers.start([name], self.folder)

    def _kill_session(self, choice: float) -> None:
        """Kills the process of a client's session: PostgreSQL then ends all sessions, and recovers by itself."""
        sessions = []
        for process in psutil.Process(self._pid("postgres")).children():
            with suppress(psutil.NoSuchProcess):
                if "postgres postgres" in process.cmdline()[0]:  # user and database; the others are its own processes
                    sessions.append(process.pid)
        if sessions:
            with suppress(ProcessLookupError):
                os.kill(sorted(sessions)[int(choice * len(sessions))], signal.SIGKILL)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stops a process and all that it has forked, and lets them go on in the end."""
    process = psutil.Process(pid)
    process.suspend()
    stopped = [process]
    try:
        for child in process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.suspend()
                stopped.append(child)
        yield
    finally:
        for each in reversed(stopped):
            with suppress(psutil.NoSuchProcess):
                each.resume()
