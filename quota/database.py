"""How the quota asks PostgreSQL: one statement at a time, never inside a transaction, never without an end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, NamedTuple

import psycopg
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import DateTimeField, Func

from quota.exceptions import QuotaUnavailable


class QuotaNow(Func):
    """The quota's clock, in a query: the database's, which decides the day."""

    function = "quota_now"
    output_field = DateTimeField()


class Decision(NamedTuple):
    """The SQL type `quota_decision`, field by field; `quota/sql/` says what each means."""

    outcome: str
    broken_limit: str | None
    free: int | None
    retry_at: datetime | None
    day: date | None
    call: int | None
    send_at: datetime | None
    send_in: float | None
    valid_for: float | None


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
    except (OperationalError, InterfaceError) as error:
        connection.close()
        raise QuotaUnavailable("The quota's database did not answer in time.") from error


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
