"""Starts and stops one embedded server, and tells whether it runs."""

import hashlib
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path

from alexandria.development.embedded.files import EmbeddedError, locked, private_folder, text_of, try_lock

MAX_SOCKET_PATH_BYTES = 100  # the limit is 107 on Linux and 103 on macOS
SOCKET_EXAMPLE = "postgres/.s.PGSQL.5432"  # the longest that we use
TEMPORARY = Path("/tmp")  # noqa: S108 - not $TMPDIR, which can differ between shells
MAX_LOG_BYTES = 5_000_000
SECONDS_TO_ANSWER = 60
SECONDS_TO_END = 30
SECONDS_OF_GRACE = 10  # for a server that another process has just started or stopped


class Service(ABC):
    """One server. Its folder is in the data folder `home`.

    The server inherits the open, locked file `alive.lock`, so the lock is held until its last process has ended. The
    lock tells whether the server runs. A pid file cannot, because a crash leaves it behind.
    """

    name: str
    variable: str
    socket_name: str
    stop_signal: signal.Signals

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / self.name
        self.log = self.folder / "log"

    @abstractmethod
    def url(self) -> str:
        """The URL for clients, as the variable expects it."""

    def address(self) -> str:
        """The URL without the password."""
        return self.url()

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server accepts requests now."""

    @abstractmethod
    def pid(self) -> int | None:
        """The process id in the server's pid file. It is valid only while the server holds `alive.lock`."""

    @abstractmethod
    def launch(self, alive_lock: int) -> None:
        """Starts the server as a daemon that keeps the descriptor `alive_lock` open."""

    @property
    def socket_folder(self) -> Path:
        """The server's folder, or a short one if its path is too long or has a comma (which libpq would split)."""
        if len(os.fsencode(self.home / SOCKET_EXAMPLE)) <= MAX_SOCKET_PATH_BYTES and "," not in str(self.home):
            return self.folder
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return TEMPORARY / f"alexandria-{os.geteuid()}-{digest}" / self.name

    @property
    def socket_path(self) -> Path:
        return self.socket_folder / self.socket_name

    def start(self) -> bool:
        """Starts the server unless it runs, and waits until it answers. Returns whether it started it."""
        private_folder(self.home)
        with locked(self.home / "start.lock"):
            if self.answers():
                return False
            try:
                self._start()
            except OSError as error:
                raise self.failure(f"could not be started: {error}") from error
            return True

    def stop(self) -> bool:
        """Stops the server, if necessary with SIGKILL. Returns whether it was running. Raises EmbeddedError."""
        if not self.folder.is_dir():
            return False
        with locked(self.home / "start.lock"):
            return self._end()

    def failure(self, what: str) -> EmbeddedError:
        tail = "\n".join(text_of(self.log).splitlines()[-15:])
        return EmbeddedError(
            f"The embedded {self.name} {what}\nThe end of {self.log}:\n{tail}\n"
            f"Fix the cause and try again, or set {self.variable} to your own server."
        )

    def account(self) -> tuple[int, int] | None:
        """User and group id for the server if they are not ours: root runs it as the owner of the folder."""
        owner = self.folder.stat()
        return (owner.st_uid, owner.st_gid) if os.geteuid() == 0 and owner.st_uid != 0 else None

    def run(self, program: Path, *arguments: str, keep_open: Collection[int] = ()) -> None:
        """Runs a program of the wheel as `account`, without our environment, and waits. Raises EmbeddedError."""
        user, group = self.account() or (None, None)
        if not os.access(program, os.X_OK):
            program.chmod(program.stat().st_mode | 0o111)
        try:
            subprocess.run(
                [str(program), *arguments],
                cwd=self.folder,
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                user=user,
                group=group,
                extra_groups=None if user is None else [],
                umask=0o077,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=True,
                timeout=180,
                pass_fds=keep_open,
                start_new_session=True,
            )
        except subprocess.SubprocessError as error:
            output = getattr(error, "output", None) or ""
            raise self.failure(f"could not be started: {program.name}: {error}\n{output}".rstrip()) from error

    def _start(self) -> None:
        private_folder(self.folder)
        if self.socket_folder != self.folder:
            private_folder(self.socket_folder.parent)
            if self.socket_folder.parent.stat().st_uid != os.geteuid():
                raise EmbeddedError(f"{self.socket_folder.parent} belongs to another user. Remove it.")
            private_folder(self.socket_folder)
        alive = self._wait_for_end(seconds=SECONDS_OF_GRACE, or_answer=True)
        if alive is None and self.answers():
            return
        if alive is None:
            self._end()
            alive = self._wait_for_end(seconds=SECONDS_OF_GRACE)
        if alive is None:
            raise self.failure("does not answer and does not end. Stop it by hand.")
        try:
            if self.log.is_file() and self.log.stat().st_size > MAX_LOG_BYTES:
                self.log.replace(self.log.with_name("log.old"))
            self.launch(alive)
        finally:
            os.close(alive)
        self._wait_for_answer()

    def _end(self) -> bool:
        for number in (self.stop_signal, signal.SIGKILL):
            if (alive := self._wait_for_end(seconds=0)) is not None:
                os.close(alive)
                return number != self.stop_signal
            if pid := self.pid():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            if (alive := self._wait_for_end(seconds=SECONDS_TO_END)) is not None:
                os.close(alive)
                return True
        raise self.failure("does not end. Stop it by hand.")

    def _wait_for_end(self, *, seconds: float, or_answer: bool = False) -> int | None:
        """Locks `alive.lock` once no server holds it. None if a server still holds it, or as soon as it answers."""
        deadline = time.monotonic() + seconds
        while True:
            if (alive := try_lock(self.folder / "alive.lock")) is not None:
                return alive
            if time.monotonic() >= deadline or (or_answer and self.answers()):
                return None
            time.sleep(0.01)

    def _wait_for_answer(self) -> None:
        deadline = time.monotonic() + SECONDS_TO_ANSWER
        while not self.answers():
            if (alive := self._wait_for_end(seconds=0)) is not None:
                os.close(alive)
                raise self.failure("ended immediately after its start.")
            if time.monotonic() >= deadline:
                raise self.failure(f"does not answer after {SECONDS_TO_ANSWER} seconds.")
            time.sleep(0.01)


def connects(path: Path, request: bytes = b"", answer: bytes = b"") -> bool:
    """Whether a server listens on a unix socket and, with a `request`, its reply begins with `answer`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
            if request:
                client.settimeout(5)
                client.sendall(request)
                return client.recv(64).startswith(answer)
        except OSError:
            return False
        return True
