"""The life of one embedded server: start, answer, end."""

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

LONGEST_SOCKET_PATH = 100  # Linux ends at 107 bytes, macOS at 103
LONGEST_SOCKET_NAME = "postgres/.s.PGSQL.5432"
TEMPORARY = Path("/tmp")  # noqa: S108 - not $TMPDIR, which differs from shell to shell while the server stays
LOG_BYTES = 5_000_000
SECONDS_TO_ANSWER = 60
SECONDS_TO_END = 30
SECONDS_OF_GRACE = 10  # for a server that somebody else has just started, or that is about to end


class Service(ABC):
    """One server with its folder under the data folder `home`.

    The server inherits an open, locked `alive.lock` and so keeps it locked until the last of its processes has ended.
    That, and not a pid file that a crash leaves behind, says whether it runs.
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
        """What clients connect with, in the form that the variable takes."""

    def address(self) -> str:
        """The same as people may see it, without the password."""
        return self.url()

    @abstractmethod
    def answers(self) -> bool:
        """Whether it takes requests now."""

    @abstractmethod
    def pid(self) -> int | None:
        """The process id in the server's pid file; it means something only while `alive.lock` is held."""

    @abstractmethod
    def launch(self, alive_lock: int) -> None:
        """Starts the server as a daemon that keeps the descriptor `alive_lock` open."""

    @property
    def socket_folder(self) -> Path:
        """The server's folder, or a short one where that is too long or contains a comma, at which libpq splits it."""
        if len(os.fsencode(self.home / LONGEST_SOCKET_NAME)) <= LONGEST_SOCKET_PATH and "," not in str(self.home):
            return self.folder
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return TEMPORARY / f"alexandria-{os.geteuid()}-{digest}" / self.name

    @property
    def socket_path(self) -> Path:
        return self.socket_folder / self.socket_name

    def start(self) -> bool:
        """Starts the server unless it answers, waits until it does; whether that was needed. Raises EmbeddedError."""
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
        """Ends the server, by force if it does not listen; whether there was one. Raises EmbeddedError."""
        if not self.folder.is_dir():
            return False
        with locked(self.home / "start.lock"):
            return self._end()

    def failure(self, what: str) -> EmbeddedError:
        tail = "\n".join(text_of(self.log).splitlines()[-15:])
        return EmbeddedError(
            f"The embedded {self.name} {what}\nThe end of {self.log}:\n{tail}\n"
            f"Mend the cause and try again, or set {self.variable} to a server of your own."
        )

    def account(self) -> tuple[int, int] | None:
        """User and group id that the server must have when they are not ours: root leaves it to the folder's owner."""
        owner = self.folder.stat()
        return (owner.st_uid, owner.st_gid) if os.geteuid() == 0 and owner.st_uid != 0 else None

    def run(self, program: Path, *arguments: str, keep_open: Collection[int] = ()) -> None:
        """Runs a program of the wheel to its end as `account`, with none of our environment. Raises EmbeddedError."""
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
            said = getattr(error, "output", None) or ""
            raise self.failure(f"could not be started: {program.name}: {error}\n{said}".rstrip()) from error

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
            raise self.failure("neither answers nor ends. Stop it by hand.")
        try:
            if self.log.is_file() and self.log.stat().st_size > LOG_BYTES:
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
        """The locked `alive.lock` once no server holds it; None when one still does, or as soon as it answers."""
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
                raise self.failure("ended as soon as it was started.")
            if time.monotonic() >= deadline:
                raise self.failure(f"does not answer after {SECONDS_TO_ANSWER} seconds.")
            time.sleep(0.01)


def connects(path: Path, request: bytes = b"", answer: bytes = b"") -> bool:
    """Whether a server listens on a unix socket and, if there is a `request`, begins its reply with `answer`."""
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
