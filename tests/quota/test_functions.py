"""`quota/sql/functions.sql`: the database runs what the file says, and decides by the entries of `quota/limits.py`."""

import hashlib
import re
from importlib import import_module
from itertools import combinations
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from alexandria.common.text import counted
from alexandria.env import BASE_DIR
from quota.exceptions import QuotaRefused
from quota.limits import LIMITS, SWITCHED_OFF
from quota.models import Consumer, DailyLedger
from quota.services import reservations
from tests.fixtures import NOON, stop_database_clock

FUNCTIONS = BASE_DIR / "quota" / "sql" / "functions.sql"
DEFINITIONS = """
    SELECT oid::regprocedure::text, pg_get_functiondef(oid) FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND starts_with(proname, 'quota_')"""
EXPLAIN_ALLOWANCE = """
    EXPLAIN SELECT allowance.* FROM quota_consumer AS consumer
    LEFT JOIN quota_consumerusage AS usage ON usage.consumer_id = consumer.id
    CROSS JOIN LATERAL quota_allowance(
        p_consumer => consumer, p_usage => usage, p_day => '2026-05-05', p_now => '2026-05-05 12:00:00+00',
        p_day_closed => false, p_safety_limit => 13000, p_used => 1, p_reserved => 1
    ) AS allowance"""


def definitions() -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute(DEFINITIONS)
        return dict(cursor.fetchall())


def runs_the_file(migration: Any) -> bool:
    return any(getattr(step, "sql", None) == FUNCTIONS.read_text() for step in migration.operations)


@pytest.mark.django_db
def test_a_migrated_database_has_exactly_the_functions_of_the_file() -> None:
    """The file is run once more, in a transaction that the test rolls back: that must change nothing."""
    migrated = definitions()
    with connection.cursor() as cursor:
        cursor.execute(FUNCTIONS.read_text())
    assert definitions() == migrated
    assert len(migrated) > 20


def test_a_change_of_the_file_comes_with_a_migration_that_runs_it() -> None:
    """The newest migration that runs the file holds the SHA-256 of the file that it was written for.

    When this fails, you have changed functions.sql, and existing databases do not have your change yet. While the
    project is unreleased, correct SHA256_OF_FUNCTIONS (`sha256sum quota/sql/functions.sql`). After the release, add a
    migration that runs the file, with the new digest. The file drops and creates all functions, so it can run on every
    earlier version. Take the operation out of the migration that ran the file before: on a new database it would run
    today's file before the tables are today's.
    """
    graph = MigrationLoader(None).graph
    [newest] = graph.leaf_nodes("quota")
    names = [name for app, name in graph.forwards_plan(newest) if app == "quota"]
    modules = [import_module(f"quota.migrations.{name}") for name in names]
    latest = [module for module in modules if hasattr(module, "SHA256_OF_FUNCTIONS")][-1]
    assert hashlib.sha256(FUNCTIONS.read_bytes()).hexdigest() == latest.SHA256_OF_FUNCTIONS
    assert [module for module in modules if runs_the_file(module.Migration)] == [latest]


def test_postgresql_inlines_the_function_that_computes_an_allowance(consumer: Consumer) -> None:
    """PostgreSQL inlines it into the statement that calls it, so that a decision takes no longer."""
    with connection.cursor() as cursor:
        cursor.execute(EXPLAIN_ALLOWANCE)
        plan = "\n".join(line for [line] in cursor.fetchall())
    assert "quota_consumerusage" in plan
    assert "Function Scan" not in plan


def test_the_sql_functions_name_the_limits_and_switches_in_the_order_of_the_entries() -> None:
    [body] = re.findall(r"CREATE FUNCTION quota_allowance\(.*?AS \$\$(.*?)\$\$", FUNCTIONS.read_text(), re.DOTALL)
    [order] = re.findall(r"SELECT CASE  -- in the order of.*?END AS broken_limit", body, re.DOTALL)
    assert re.findall(r"THEN '(\w+)'", order) == list(LIMITS)
    [switches] = re.findall(r"CREATE FUNCTION quota_switched_off\(.*?\$\$(.*?)\$\$", FUNCTIONS.read_text(), re.DOTALL)
    assert re.findall(r"THEN '(\w+)'", switches) == list(SWITCHED_OFF)


def break_limit(name: str) -> None:
    """Makes the limit refuse 5 calls of the consumer `reader` on a day of 100 calls."""
    own = {"cap_per_operation": 4, "daily_budget": 4, "floor": 96}
    if name in own:
        Consumer.objects.filter(slug="reader").update(**{name: own[name]})
    elif name == "day_closed":
        DailyLedger.objects.update(closed_at=NOON, closed_reason="Daily quota exceeded")
    elif name == "safety_limit":
        reservations.increment(96)
    else:
        assert name == "midnight", f"{name}: say here how to break it"
        stop_database_clock(NOON.replace(hour=23, minute=59, second=59))


@pytest.mark.parametrize(("first", "second"), [*((name, name) for name in LIMITS), *combinations(LIMITS, 2)])
def test_of_two_exceeded_limits_the_first_entry_refuses(consumer: Consumer, settings, first: str, second: str) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 120, 20
    reservations.open_ledger()
    for name in (second, first) if first == "midnight" else (first, second):  # the clock is set last
        break_limit(name)
    with pytest.raises(QuotaRefused) as caught:
        reservations.reserve(consumer="reader", operation="test", calls=5)
    assert caught.value.limit == first


@pytest.mark.django_db
def test_the_texts_about_midnight_name_the_guard_of_the_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT quota_midnight_guard()")
        [guard] = cursor.fetchone()
    seconds = counted(int(guard.total_seconds()), "second")
    assert f"within {seconds} of midnight UTC" in LIMITS["midnight"].explanation
    assert LIMITS["midnight"].retry == f"{seconds} after midnight"
    midnight = NOON.replace(hour=0)
    docs = (BASE_DIR / "docs" / "quota.md").read_text()
    assert f"before {midnight - guard:%H:%M:%S}, and the first of the next is\n{midnight + guard:%H:%M:%S}" in docs


def test_the_table_of_the_docs_lists_the_entries() -> None:
    table = (BASE_DIR / "docs" / "quota.md").read_text()
    rows = [f"| `{limit.name}` | {limit.explanation} | {limit.retry} |" for limit in LIMITS.values()]
    assert "\n".join(rows) in table
