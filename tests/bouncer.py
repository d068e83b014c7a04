"""A PgBouncer in front of the PostgreSQL of a test or benchmark."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from django.db import connection

from alexandria.env import BASE_DIR
from tests.alexandria.serving import account_of, until, unused_port

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
POOL = 8
"""Connections to PostgreSQL, far fewer than clients. Each transaction gets any free one."""


class Bouncer(NamedTuple):
    url: str
    environment: dict[str, str]
    """The variables that make a process use it."""


@contextmanager
def bouncing() -> Iterator[Bouncer]:
    """A running PgBouncer with the settings of docs/deploy.md. It runs as another user, because it refuses root."""
    direct, given = connection.get_connection_params(), urlsplit(os.environ["DATABASE_URL"])
    host, port = direct.get("host") or "127.0.0.1", unused_port()
    folder = Path(tempfile.mkdtemp(prefix="alx-bouncer-"))
    account = account_of(Path(host) if host.startswith("/") else Path("/"))
    (folder / "users.txt").write_text(f'"{unquote(given.username or "")}" "{unquote(given.password or "")}"\n')
    ini = settings_in_docs().replace("db.example port=5432", f"{host} port={direct.get('port') or 5432}")
    ini = ini.replace("/etc/pgbouncer/users.txt", str(folder / "users.txt")).replace("= 6432", f"= {port}")
    (folder / "ini").write_text(ini.replace("default_pool_size = 40", f"default_pool_size = {POOL}"))
    if account:
        for path in (folder, *folder.iterdir()):
            os.chown(path, account["user"], account["group"])
    with (folder / "log").open("w") as log:
        running = subprocess.Popen([str(PROGRAM), str(folder / "ini")], stdout=log, stderr=log, **account)
    try:
        until(lambda: accepts(port) or running.poll() is not None)
        assert running.poll() is None, (folder / "log").read_text()
        url = given._replace(netloc=f"{given.netloc.rpartition('@')[0]}@127.0.0.1:{port}", query="")
        url = url._replace(path=f"/{direct['dbname']}")
        yield Bouncer(url.geturl(), {"DATABASE_URL": url.geturl(), "DATABASE_POOLED": "on"})
    finally:
        running.terminate()
        running.wait()
        shutil.rmtree(folder)


def settings_in_docs() -> str:
    """The pgbouncer.ini of docs/deploy.md."""
    return (BASE_DIR / "docs" / "deploy.md").read_text().split("```ini\n")[1].split("```")[0]


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
