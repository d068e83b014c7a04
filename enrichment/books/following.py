"""Which changes of editions are settled, for programs that follow them by `updated_at`.

A transaction that commits late has an older `updated_at` than what others have committed before it; a program that has
read up to these would miss it. So each transaction that stores editions first takes a shared lock whose number is the
second of its begin, and takes `updated_at` from a later statement. What is older than the oldest such lock is settled:
no transaction can add to it any more.

The lock is for reading in pg_locks only. Nobody waits for it.
"""

from datetime import datetime

from django.db import connection

_CLASS = 1_095_518_552  # of our advisory locks; any number that no other part of the database uses
# pg_locks shows the upper half of an advisory lock's number as classid, and the lower half as objid.
BEGIN_STORING = f"""
    SELECT pg_advisory_xact_lock_shared(
        ({_CLASS}::bigint << 32) | floor(extract(epoch FROM statement_timestamp()))::bigint)"""  # noqa: S608 (a number)
# The statement's own time is from before it reads the locks: who begins later has a later `updated_at`.
_SETTLED_UNTIL = f"""
    SELECT least(statement_timestamp(), to_timestamp(min(objid::bigint)))
    FROM pg_locks
    WHERE locktype = 'advisory' AND classid = {_CLASS} AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""  # noqa: S608


def settled_until() -> datetime:
    """Every change with an `updated_at` before this moment is committed, and visible to queries from now on."""
    with connection.cursor() as cursor:
        cursor.execute(_SETTLED_UNTIL)
        row: tuple[datetime] = cursor.fetchone()  # an aggregate gives one row
    return row[0]
