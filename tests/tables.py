"""Empties the database after a test that commits.

Django's own `flush` truncates every table and makes all content types and permissions again: 200 ms of CPU time a test.
Most tests write few rows into few tables, so it takes 1 ms to delete these rows.
"""

from django.apps import apps
from django.core.management import call_command
from django.db import connection
from psycopg import sql

FILLED_BY_MIGRATE = {"django_content_type", "auth_permission"}
"""Tables whose rows belong to the schema. They stay, unless a test changes them."""
MAX_DELETE_BYTES = 64 * 1024
"""A larger table is truncated. Deleted rows would stay in the table and its indexes, and slow down later tests."""

_schema_rows: dict[str, str] = {}
"""By database, a fingerprint of the rows that belong to the schema."""


def start_empty() -> None:
    """Empties all tables, also those that migrations fill, and numbers the content types from 1."""
    call_command("flush", interactive=False, verbosity=0)
    _schema_rows[str(connection.settings_dict["NAME"])] = _fingerprint()
    _delete_rows()  # `flush` ends like a migration, which creates rows


def empty() -> None:
    """Empties the tables as `start_empty()` does, but does not reset sequences."""
    if _fingerprint() == _schema_rows.get(str(connection.settings_dict["NAME"])):
        _delete_rows()
    else:
        start_empty()


def _delete_rows() -> None:
    """Deletes every row from the tables that have pages. No test has written into the others since their truncation.

    A table that autovacuum has counted is truncated, which makes PostgreSQL forget its estimate of the rows.
    """
    models = apps.get_models(include_auto_created=True)
    names = {model._meta.db_table for model in models if model._meta.managed} - FILLED_BY_MIGRATE
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, pg_relation_size(oid) > %s OR reltuples >= 0 FROM pg_class WHERE relname = ANY(%s) "
            "AND relnamespace = 'public'::regnamespace AND (pg_relation_size(oid) > 0 OR reltuples >= 0)",
            [MAX_DELETE_BYTES, list(names)],
        )
        found: list[tuple[str, bool]] = cursor.fetchall()
        if not found:
            return
        emptied = [
            sql.SQL("TRUNCATE {} CASCADE" if truncate else "DELETE FROM {}").format(sql.Identifier(name))
            for name, truncate in found
        ]
        tables = [sql.Identifier(name) for name, _ in found]
        # The lock waits for a process that still writes. A superuser can skip the check of foreign keys.
        cursor.execute(
            sql.SQL(
                "BEGIN; LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE; "
                "SELECT set_config('session_replication_role', 'replica', true) FROM pg_roles "
                "WHERE rolname = current_user AND rolsuper; {emptied}; COMMIT"
            ).format(tables=sql.SQL(", ").join(tables), emptied=sql.SQL("; ").join(emptied))
        )


def _fingerprint() -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT md5(string_agg(type::text, ',' ORDER BY type.id)) || "
            "(SELECT md5(string_agg(permission::text, ',' ORDER BY permission.id)) FROM auth_permission permission) "
            "FROM django_content_type type"
        )
        return str(cursor.fetchone()[0])
