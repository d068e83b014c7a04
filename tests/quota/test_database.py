"""The time limits of our statements, and their exception."""

import pytest
from django.core.management.sql import emit_post_migrate_signal, emit_pre_migrate_signal
from django.db import connection


def bounds() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
        return list(cursor.fetchone())


@pytest.mark.django_db(transaction=True)
def test_every_statement_has_a_time_limit_except_in_a_migration() -> None:
    connection.close()
    assert bounds() == ["2s", "15s"]
    emit_pre_migrate_signal(0, False, "default")
    assert bounds() == ["2s", "0"]
    emit_post_migrate_signal(0, False, "default")
    assert bounds() == ["2s", "15s"]
