"""How PostgreSQL says that it cannot be used at present, and how to wait until it can."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import structlog
from django.db import DatabaseError, InterfaceError, OperationalError, connection

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

OUT_OF_REACH = (OperationalError, InterfaceError)
"""What Django raises when the database does not answer, or not in time. A later retry can succeed."""

READ_ONLY = "25006"
"""The SQLSTATE of a database that takes no writes: a standby, or a primary that was set to read-only.

Django does not raise an OperationalError for it, but a later retry can succeed as well.
"""


def sqlstate(error: DatabaseError) -> str:
    """PostgreSQL's code for the error; "" when the error does not come from PostgreSQL."""
    return getattr(error.__cause__, "sqlstate", None) or ""


def can_pass(error: BaseException) -> bool:
    """Whether the database is the cause of the error, directly or as its cause, and a later retry can succeed."""
    return any(
        isinstance(each, OUT_OF_REACH) or (isinstance(each, DatabaseError) and sqlstate(each) == READ_ONLY)
        for each in (error, error.__cause__)
    )


def patiently(do: Callable[[], Result], *, patience: timedelta) -> Result:
    """Does what the database has to be there for: again and again while an error `can_pass`, for so long at most.

    `do` must do no harm when it is done twice. Raises its last error. Each try has a new connection.
    """
    began, pause = time.monotonic(), 0.25
    while True:
        try:
            return do()
        except Exception as error:
            if not can_pass(error):
                raise
            connection.close()
            if time.monotonic() + pause > began + patience.total_seconds():
                raise
            log.warning("database.waiting", error=f"{type(error).__name__}: {error}")
        time.sleep(pause)
        pause = min(2 * pause, 2.0)
