"""What bounds every statement of ours, and what does not have to keep to it."""

import pytest
from django.core.management.sql import emit_post_migrate_signal, emit_pre_migrate_signal
from django.db import connection


def bounds() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
        return list(cursor.fetchone())


@pytest.mark.django_db(transaction=True)
def test_no_statement_lasts_for_ever_but_those_of_a_migration() -> None:
    connection.close()
    assert bounds() == ["2s", "15s"]
    emit_pre_migrate_signal(0, False, "default")
    assert bounds() == ["2s", "0"]
    emit_post_migrate_signal(0, False, "default")
    assert bounds() == ["2s", "15s"]
