"""How the quota asks PostgreSQL: one statement at a time, never inside a transaction, never without an end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, NamedTuple

import psycopg
from django.db import DatabaseError, connection, transaction
from django.db.models import DateTimeField, Func

from alexandria.common.database import OUT_OF_REACH, READ_ONLY, sqlstate
from quota.exceptions import QuotaUnavailable


class Decision(NamedTuple):
    """The SQL type `quota_decision`, by the names of its fields; `quota/sql/` says what each means."""

    outcome: str
    broken_limit: str | None
    free: int | None
    retry_at: datetime | None
    day: date | None
    call: int | None
    send_at: datetime | None
    send_in: float | None
    valid_for: float | None


FIELDS = ", ".join(Decision._fields)
"""To be selected from a function that gives a `quota_decision`, whatever the order in which the type holds them."""

FIELDS_OF_DECISION = ", ".join(f"(decision).{name}" for name in Decision._fields)
"""The same, where the decision is one column among others."""


class QuotaNow(Func):
    """The quota's clock, for queries of Django's: what waits for the quota must go by the same midnight."""

    function = "quota_now"
    output_field = DateTimeField()


@contextmanager
def reachable() -> Iterator[None]:
    """Turns "PostgreSQL does not answer, or not in time" into QuotaUnavailable.

    Raises TransactionManagementError inside a transaction: what the quota commits must stay, whatever the caller
    rolls back.
    """
    if connection.in_atomic_block:
        raise transaction.TransactionManagementError("The quota may not be used inside a transaction.")
    try:
        yield
    except OUT_OF_REACH as error:
        connection.close()
        raise QuotaUnavailable("The quota's database did not answer in time.") from error
    except DatabaseError as error:
        if sqlstate(error) != READ_ONLY:
            raise
        connection.close()  # the next one may find the new primary
        raise QuotaUnavailable("The quota's database takes no writes at present.") from error


def ask(sql: str, params: Sequence[Any] = ()) -> tuple[Any, ...]:
    """Runs one statement in a transaction of its own and returns its first row; an empty tuple when there is none.

    PostgreSQL parses and plans it once for each connection: Django's own cursors cannot prepare statements.
    """
    with reachable():
        connection.close_if_health_check_failed()
        connection.ensure_connection()
        with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
            cursor.execute(sql, params, prepare=True)
            return tuple(cursor.fetchone() or ())
