"""Paid answers that the database could not take: they are put aside in files, and stored later.

ISBNdb's books are paid for when they come. If the database is away or full at that moment, they wait in the folder
ANSWERS_DIR, a file for each answer, until `store_aside` stores them. Any process that sees the folder does that.
"""

import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec
import structlog
from django.conf import settings

from alexandria.common.database import can_pass, patiently
from enrichment.books.decoding import Answer, decode_books
from enrichment.books.storage import remember_misses, store_books
from enrichment.models import Edition, Miss
from quota.exceptions import QuotaError
from quota.services.reservations import slow_down

log = structlog.get_logger(__name__)

PATIENCE = timedelta(seconds=20)
"""So long an answer waits for the database before it is put aside. While another is aside, it does not wait at all."""

MANY = 3
"""With so many answers aside the fleet pauses: what it buys cannot be stored."""

PAUSE = timedelta(seconds=35)
"""So long the fleet pauses. While the answers cannot be stored, each try to store them, every 5 seconds, makes it pause
again. It is longer than a request waits for the pace, so who waits is told at once."""

DRAFT_AGE = timedelta(seconds=10)
"""A file that is being written is locked from the moment after it is made, so a younger one may not be locked yet."""

Stored = TypeVar("Stored")


class Aside(msgspec.Struct):
    """What a file has: the books as ISBNdb sent them, the ISBN-13s that it does not know, and when it said so."""

    data: list[msgspec.Raw]
    missing: list[str]
    doubtful: bool
    came_at: datetime


def store_or_put_aside(answer: Answer, store: Callable[[], Stored], *, missing: Sequence[str] = ()) -> Stored:
    """Calls `store`, which stores the answer, for as long as PATIENCE. If it fails, puts the answer aside and raises.

    `store` can be called several times. `missing`: the ISBN-13s that ISBNdb was asked for and does not know.
    """
    try:
        return patiently(store, patience=timedelta() if _files() else PATIENCE)
    except BaseException:  # also when a person ends the process
        put_aside(answer, missing=missing)
        raise


def put_aside(answer: Answer, *, missing: Sequence[str] = ()) -> None:
    """Writes the answer into a file of its own, for `store_aside`. With MANY of them, the fleet pauses.

    If the file cannot be written either, the log says what is lost.
    """
    if not answer.books and not missing:
        return
    kept = Aside(
        data=[msgspec.Raw(book.raw.encode()) for book in answer.books],
        missing=list(missing),
        doubtful=bool(answer.bad),
        came_at=datetime.now(UTC),
    )
    path = _folder() / f"{kept.came_at:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex}.json"
    draft = path.with_suffix(".part")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with draft.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is renamed: somebody works on it
            file.write(msgspec.json.encode(kept))
            file.flush()
            os.fsync(file.fileno())
            draft.rename(path)
        _sync_folder()
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        isbns = [book.isbn13 for book in answer.books]
        log.exception("books.lost", isbns=isbns, missing=kept.missing)
        return
    log.error("books.put_aside", file=path.name, books=len(kept.data), missing=len(kept.missing))
    _pause_if_many()


def store_aside() -> int:
    """Stores what was put aside, the oldest first; returns how many answers. Ends when the database fails again.

    What was stored since an answer came is newer, and stays. An answer that cannot be stored for another reason gets
    the ending `.bad`, for a person to look at. So does one that a dead process has not written to its end.
    """
    _take_over_drafts()
    stored = 0
    for path in _files():
        with _claimed(path) as file:
            if file is None:
                continue
            try:
                _store(msgspec.json.decode(file.read(), type=Aside))
            except Exception as error:
                if can_pass(error):
                    log.warning("books.still_aside", answers=len(_files()), error=str(error))
                    _pause_if_many()
                    return stored
                log.exception("books.bad_answer_aside", file=path.name)
                path.rename(path.with_suffix(".bad"))
            else:
                path.unlink()
                stored += 1
    if stored:
        log.info("books.stored_from_aside", answers=stored)
    return stored


def answers_aside() -> int:
    """How many answers wait in the folder that this process sees."""
    return len(_files())


def bad_answers() -> int:
    """How many answers in that folder cannot be stored until a person has looked at them."""
    return sum(1 for _ in _folder().glob("*.bad"))


def _store(kept: Aside) -> None:
    answer = decode_books(msgspec.json.encode({"data": kept.data}), key="data")
    isbns = [book.isbn13 for book in answer.books] + kept.missing
    newer = set(Edition.objects.filter(pk__any_of=isbns, synced_at__gte=kept.came_at).values_list("pk", flat=True))
    newer |= set(Miss.objects.filter(pk__any_of=isbns, asked_at__gte=kept.came_at).values_list("pk", flat=True))
    store_books((book for book in answer.books if book.isbn13 not in newer), synced_at=kept.came_at)
    remember_misses((isbn for isbn in kept.missing if isbn not in newer), doubtful=kept.doubtful, asked_at=kept.came_at)


def _pause_if_many() -> None:
    """Lets the fleet pause while MANY answers are aside. Without the database, nothing can be sent anyway."""
    if (aside := len(_files())) >= MANY:
        reason = f"{aside} answers of ISBNdb could not be stored. They are kept. Nothing more is bought until then."
        try:
            slow_down(seconds=PAUSE.total_seconds(), reason=reason)
        except QuotaError as error:
            log.warning("books.fleet_not_paused", error=str(error))


@contextmanager
def _claimed(path: Path) -> Iterator[BinaryIO | None]:
    """The file, which no other process has at the same time; None if another one has it or has stored it."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file if os.fstat(file.fileno()).st_nlink and path.exists() else None


def _take_over_drafts() -> None:
    """Makes answers of the files that dead processes were writing."""
    oldest = time.time() - DRAFT_AGE.total_seconds()
    for draft in _folder().glob("*.part"):
        with _claimed(draft) as file:
            if file is not None and os.fstat(file.fileno()).st_mtime < oldest:
                draft.rename(draft.with_suffix(".json"))


def _sync_folder() -> None:
    """Makes the names in the folder outlast a power cut, as `fsync` does with the content of a file."""
    folder = os.open(_folder(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _files() -> list[Path]:
    return sorted(_folder().glob("*.json"))


def _folder() -> Path:
    return Path(settings.BASE_DIR, settings.ANSWERS_DIR)
