"""Private files and folders, locks, and the folders of the installed wheels."""

import fcntl
import importlib.util
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class EmbeddedError(Exception):
    """An embedded service is not installed, or does not start or stop. The message says what to do."""


def private_folder(folder: Path) -> None:
    """Creates a folder, and missing folders above it, that only this user can open.

    Raises EmbeddedError if the folder exists and another user can change it. Root can use the folder of another user.
    """
    if not folder.parent.exists():
        private_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    others = found.st_uid != os.geteuid() and os.geteuid() != 0
    if not stat.S_ISDIR(found.st_mode) or others or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EmbeddedError(
            f"{folder} belongs to another user, or others can write to it. Remove it, or set ALEXANDRIA_DATA_DIR."
        )


def kept_secret(path: Path) -> str:
    """The secret in a private file. The first call creates it; two callers at once get the same one."""
    if not path.is_file():
        private_folder(path.parent)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        write_private(draft, secrets.token_urlsafe(32))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another caller was first
        finally:
            draft.unlink()
    return path.read_text()


def write_private(path: Path, text: str) -> None:
    """Replaces a file with a new one that only this user can read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def text_of(path: Path) -> str:
    """The text of a file. Empty if it does not exist or cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def try_lock(path: Path) -> int | None:
    """Creates the file if necessary, locks it and returns its descriptor. None if another process holds the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for the lock of a file and holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def wheel_folder(*packages: str) -> Path:
    """The folder of the first of these packages that is installed. Imports nothing. Raises EmbeddedError."""
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec and spec.submodule_search_locations:
            return Path(spec.submodule_search_locations[0]).resolve()
    raise EmbeddedError(
        f"The Python package {' or '.join(packages)} is not installed. Install requirements-dev.txt (make setup) for "
        "the embedded PostgreSQL and Redis, or set DATABASE_URL and REDIS_URL to your own servers."
    )
