"""How the quota talks to PostgreSQL: one statement at a time, never inside a transaction, always with a time limit."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, NamedTuple

import psycopg
from django.db import DatabaseError, connection, transaction
from django.db.models import DateTimeField, DurationField, Func

from alexandria.common.database import OUT_OF_REACH, READ_ONLY, sqlstate
from quota.exceptions import QuotaUnavailable

Params = Mapping[str, Any]


class Decision(NamedTuple):
    """The SQL type `quota_decision`, with the names of its fields; `quota/sql/functions.sql` explains them."""

    outcome: str
    broken_limit: str | None
    asked: int | None
    free: int | None
    retry_at: datetime | None
    day: date | None
    call: int | None
    price: int | None
    send_at: datetime | None
    send_in: float | None
    valid_for: float | None
    payer: int | None


FIELDS = ", ".join(Decision._fields)
"""The columns to select from a function that returns a `quota_decision`. The order in the SQL type does not matter."""

FIELDS_OF_DECISION = ", ".join(f"(decision).{name}" for name in Decision._fields)
"""The same, where the decision is one column among others."""


class QuotaNow(Func):
    """The quota's clock, for Django's queries: code that waits for the quota must use the same midnight."""

    function = "quota_now"
    output_field = DateTimeField()


class MidnightGuard(Func):
    """The time before and after midnight UTC in which nothing is sent, for Django's queries."""

    function = "quota_midnight_guard"
    output_field = DurationField()


@contextmanager
def reachable() -> Iterator[None]:
    """Raises QuotaUnavailable when PostgreSQL does not answer, does not answer in time, or takes no writes.

    Raises TransactionManagementError inside a transaction: what the quota commits must stay, even if the caller rolls
    back.
    """
    if connection.in_atomic_block:
        raise transaction.TransactionManagementError("The quota cannot be used inside a transaction.")
    try:
        yield
    except OUT_OF_REACH as error:
        connection.close()
        raise QuotaUnavailable("The quota's database did not answer in time.") from error
    except DatabaseError as error:
        if sqlstate(error) != READ_ONLY:
            raise
        connection.close()  # a new connection may reach the new primary
        raise QuotaUnavailable("The quota's database takes no writes at present.") from error


def ask(sql: str, params: Params | None = None) -> tuple[Any, ...]:
    """Runs one statement in a transaction of its own and returns its first row; an empty tuple when there is none."""
    rows = ask_for_all(sql, params)
    return rows[0] if rows else ()


def ask_for_all(sql: str, params: Params | None = None) -> list[tuple[Any, ...]]:
    """Runs one statement in a transaction of its own and returns its rows.

    PostgreSQL parses and plans it once for each connection. (Django's own cursors cannot prepare statements.)
    """
    with reachable():
        connection.ensure_connection()
        with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
            cursor.execute(sql, params, prepare=True)
            return cursor.fetchall()
