"""Checkpoints in a file, for a harvest through a server on a machine without a database.

The first line holds the list. Each further line holds the result of a page and is on disk before the next page is
fetched. A line that a sudden death cut short is ignored. The working process locks `FILE.lock` beside the file.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from enrichment.authors.names import AuthorList, list_key
from enrichment.services.bibliographies import MAX_PAGES
from harvest.bulk.exceptions import AlreadyBegun, AnotherCopy, CannotGoOn, NothingToResume
from harvest.bulk.run import FIGURES, Entry, Seen, new_entries


def default_path(server: str, wanted: AuthorList) -> Path:
    """The default path for the checkpoint of a list and a server: in XDG_STATE_HOME, usually ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "alexandria" / f"bulk-{list_key(server, wanted.key)[:16]}.jsonl"


class FileCheckpoint:
    """An open checkpoint. This process holds its lock until it ends."""

    def __init__(self, path: Path, lock: int, header: dict[str, Any], entries: list[Entry]) -> None:
        self.path = path
        self.label = f"{header['label']} ({path})"
        self.source = f"bulk-{header['key'][:12]}"
        self.max_pages: int = header["max_pages"]
        self.entries = entries
        self._header = header
        self._lock = lock
        with _usable(path):
            _replace(path, header, entries)
            self._file = path.open("a", encoding="utf-8")

    def save(self, entry: Entry) -> None:
        with _usable(self.path):
            self._file.write(_line({"position": entry.position, **{name: getattr(entry, name) for name in FIGURES}}))
            self._file.flush()
            os.fsync(self._file.fileno())

    def calls(self) -> int:
        return sum(entry.calls for entry in self.entries)

    def renew(self) -> None:
        """Nothing to do: the lock ends with the process."""

    def close(self, *, reason: str) -> None:
        self._file.close()
        with _usable(self.path):
            _replace(self.path, self._header | {"finished": not reason, "reason": reason}, self.entries)
        os.close(self._lock)


class FileStore:
    """The harvest whose checkpoint is at `path`. If a list is given, it must be the list of the checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def look(self, wanted: AuthorList | None, *, resume: bool) -> Seen:
        if resume and (found := _read(self.path, wanted)):
            header, entries = found
            return f"{header['label']} ({self.path})", entries, header["max_pages"]
        if wanted is None:
            raise NothingToResume(f"There is no checkpoint at {self.path}.")
        return wanted.label, new_entries(wanted.names()), MAX_PAGES

    def open(self, wanted: AuthorList | None, *, max_pages: int | None, resume: bool, restart: bool) -> FileCheckpoint:
        lock = _take_lock(self.path)
        try:
            header, entries = _content(self.path, wanted, max_pages=max_pages, resume=resume, restart=restart)
            return FileCheckpoint(self.path, lock, header | {"finished": False, "reason": ""}, entries)
        except BaseException:
            os.close(lock)
            raise


def _content(
    path: Path, wanted: AuthorList | None, *, max_pages: int | None, resume: bool, restart: bool
) -> tuple[dict[str, Any], list[Entry]]:
    """The header and the authors for the new file."""
    found = _read(path, wanted)
    if found and resume:
        header, entries = found
        header["max_pages"] = max_pages or header["max_pages"]
        for entry in entries:
            entry.reopen(header["max_pages"])
        return header, entries
    if wanted is None:
        raise NothingToResume(f"There is no checkpoint at {path}.")
    if found and not restart and not found[0].get("finished"):
        raise AlreadyBegun(f"The harvest of {wanted.label} in {path} was started before and has stopped.")
    header = {"label": wanted.label, "key": wanted.key, "max_pages": max_pages or MAX_PAGES}
    return header, new_entries(wanted.names())


def _take_lock(path: Path) -> int:
    with _usable(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        who = os.pread(lock, 200, 0).decode(errors="replace")
        os.close(lock)
        raise AnotherCopy(f"{who} works on {path}.") from error
    os.ftruncate(lock, 0)
    os.pwrite(
        lock, f"Process {os.getpid()} on {socket.gethostname()}, since {datetime.now(UTC):%F %H:%M} UTC,".encode(), 0
    )
    return lock


def _read(path: Path, wanted: AuthorList | None) -> tuple[dict[str, Any], list[Entry]] | None:
    """The header and the authors; None if there is no file."""
    with _usable(path):
        if not path.exists():
            return None
        lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()  # cut short by a sudden death
    try:
        header = json.loads(lines[0])
        entries = [Entry(**entry) for entry in header.pop("authors")]
        key, *_ = (header[name] for name in ("key", "label", "max_pages"))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise CannotGoOn(
            f"{path} is not a checkpoint of a bulk harvest. It stays unchanged; give another --checkpoint."
        ) from error
    try:
        for note in map(json.loads, lines[1:]):
            entry = entries[note.pop("position") - 1]
            vars(entry).update(note)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise CannotGoOn(f"The checkpoint {path} is damaged. It stays unchanged; give another --checkpoint.") from error
    if wanted is not None and key != wanted.key:
        raise CannotGoOn(f"{path} is the checkpoint of another list: {header['label']}.")
    return header, entries


def _replace(path: Path, header: dict[str, Any], entries: list[Entry]) -> None:
    """Replaces the whole file in one step, so that there always is either the old file or the new one."""
    draft = path.with_name(f"{path.name}.new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(_line(header | {"authors": list(map(asdict, entries))}))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotGoOn(f"The checkpoint {path} cannot be used: {error.strerror}.") from error
