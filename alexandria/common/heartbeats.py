"""Keeps a claim while its work goes on, so that the claim of a dead process ends soon."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog
from django.db import DatabaseError, InterfaceError, connection

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=60)
"""So long a claim holds after its last heartbeat. Its process is dead then, or has lost the database for so long."""

HEARTBEAT = timedelta(seconds=15)


@contextmanager
def heartbeats(beat: Callable[[], bool], *, every: timedelta | None = None) -> Iterator[None]:
    """Calls `beat` every HEARTBEAT, in a thread of its own, until the block ends or `beat` returns False.

    `every`: for a lease that is shorter than LEASE.

    `beat` renews a lease, and returns whether there is anything to keep. After a failure of the database it is called
    again.
    """
    ended = threading.Event()
    pause = (every or HEARTBEAT).total_seconds()

    def run() -> None:
        goes_on = True
        while goes_on and not ended.wait(pause):
            try:
                goes_on = beat()
            except (DatabaseError, InterfaceError):
                log.warning("heartbeat.failed", exc_info=True)
            finally:
                connection.close()

    thread = threading.Thread(target=run, name="heartbeats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
