"""A database of 0.1.0 migrates: its figures and its misses keep their meaning."""

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from tests import processes
from tests.alexandria.serving import run

OLD = "alexandria_of_0_1_0"
QUOTA = """
    INSERT INTO quota_consumer (id, slug, kind, floor, active, created_at)
    VALUES (101, 'reader', 'api', 0, true, now());
    INSERT INTO quota_dailyledger
        (day, daily_limit, safety_buffer, max_rps, used, reserved, next_dispatch_at, closed_reason, opened_at)
    SELECT day, 15000, 2000, 3, 5, 2, now(), '', now()
    FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS day) AS today;
    INSERT INTO quota_consumerusage (day, consumer_id, used, reserved) SELECT day, 101, used, 2 FROM quota_dailyledger;
    INSERT INTO quota_reservation (
        id, day, consumer_id, operation, source, asked, calls, dispatched, state, created_at, expires_at
    ) SELECT gen_random_uuid(), day, 101, 'shelf', '', 4, 4, 2, 'open', now(), now() + interval '1 day'
    FROM quota_dailyledger;
    INSERT INTO quota_call (
        day, consumer_id, reservation_id, operation, calls, dispatched_at, send_at, method, path, isbns_asked, outcome,
        error
    ) SELECT day, 101, id, 'shelf', 1, now(), now(), 'POST', '/books', 1000, 'ok', ''
    FROM quota_reservation, generate_series(1, 2);
    INSERT INTO quota_call (
        day, consumer_id, operation, calls, dispatched_at, send_at, method, path, outcome, error
    ) SELECT day, 101, 'external', 3, now(), now(), '', '', 'external', 'made outside' FROM quota_dailyledger;
    INSERT INTO quota_reconciliation (
        day, answered_at, spent, total, in_flight, ignored, used, raised_by, active, key_charged
    ) SELECT day, now(), 5, 15000, 0, '', 5, 0, '{}', charged
    FROM quota_dailyledger, unnest(ARRAY[true, false, NULL]) AS answers (charged)"""
MISSES = """
    INSERT INTO enrichment_authormiss (name_key, name, asked_at) VALUES
        ('vernier zoe', 'Vernier, Zoe', '2026-05-01'), ('nobody', 'Nobody', '2026-05-02');
    INSERT INTO enrichment_miss (isbn13, asked_at) VALUES ('9780441172719', '2026-05-03');
    INSERT INTO harvest_cronstate (name, cursor) VALUES
        ('update-feed', '{"since": "2026-05-01", "pending": ["9780441172719"]}'), ('new-releases', '{"resume": "x"}')
    ON CONFLICT (name) DO UPDATE SET cursor = EXCLUDED.cursor"""

JOBS = """
    INSERT INTO enrichment_job (
        id, consumer_id, kind, wanted, on_exhausted, body_hash, state, created_at, started_at, ended_at, attempts,
        failures, cancel_requested, done, total, progress, result, stopped_reason, error
    ) VALUES (
        '69b2f8e0-ddbd-474c-bc3d-f5271880edd2', 101, 'batch-direct', '{}', 'fail', '', 'succeeded', now(), now(), now(),
        0, 0, false, 1, 1, '{}', '{}', '', ''
    );
    INSERT INTO enrichment_jobitem (job_id, position, value, isbn13, state, reason)
    SELECT id, 1, '', '9780441172719', 'enriched', '' FROM enrichment_job
    UNION ALL SELECT id, 2, 'x', '', 'invalid', 'not an ISBN' FROM enrichment_job"""

pytestmark = [pytest.mark.slow, pytest.mark.django_db]


@pytest.fixture(scope="module")
def migrated(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[dict[str, str]]:
    """The environment of a process with a migrated database of 0.1.0."""
    environment = processes.environment()
    url = urlsplit(environment["DATABASE_URL"])._replace(path=f"/{OLD}").geturl()
    with django_db_blocker.unblock():
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
            cursor.execute(f"CREATE DATABASE {OLD}")
        environment |= {"DATABASE_URL": url}
        try:
            for arguments in (("enrichment", "0001"), ("harvest", "0001"), ("quota", "0002")):
                assert run(environment, "migrate", *arguments).returncode == 0
            with psycopg.connect(url, autocommit=True) as session:
                session.execute(QUOTA)
                session.execute(MISSES)
                session.execute(JOBS)
            result = run(environment, "migrate")
            assert result.returncode == 0, result.stderr
            yield environment
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE {OLD} WITH (FORCE)")


def rows(environment: dict[str, str], query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(environment["DATABASE_URL"]) as session:
        return session.execute(query).fetchall()


def test_each_request_of_0_1_0_has_cost_one_call_and_the_ledger_agrees_with_the_journal(
    migrated: dict[str, str],
) -> None:
    checked = run(migrated, "quota_status", "--check", "--json")
    assert checked.returncode == 0, checked.stderr
    figures = json.loads(checked.stdout)
    assert (figures["used"], figures["reserved"]) == (5, 2)
    assert rows(migrated, "SELECT requests FROM quota_dailyledger") == [(2,)]
    assert rows(migrated, "SELECT used, reserved, requests FROM quota_consumerusage") == [(5, 2, 2)]
    assert rows(migrated, "SELECT calls FROM quota_call ORDER BY id") == [(1,), (1,), (3,)]
    assert figures["key_price"] == 0, "it was known"
    assert figures["isbndb"]["price_seen"] == ""


def test_misses_of_0_1_0_keep_their_time_and_begin_with_the_first_step(migrated: dict[str, str]) -> None:
    assert rows(migrated, "SELECT name, asked_at::date::text, step FROM enrichment_authormiss ORDER BY name") == [
        ("Nobody", "2026-05-02", 1),
        ("Vernier, Zoe", "2026-05-01", 1),
    ]
    assert rows(migrated, "SELECT isbn13, asked_at::date::text, step, named_at FROM enrichment_miss ORDER BY 1") == [
        ("9780441172719", "2026-05-03", 1, None),
    ]


def test_the_update_feed_of_0_1_0_reads_all_seven_days_again(migrated: dict[str, str]) -> None:
    cursors = rows(migrated, "SELECT name, cursor FROM harvest_cronstate WHERE cursor <> '{}'")
    assert cursors == [("new-releases", {"resume": "x"})]
    valid = "SELECT count(*) FROM pg_index WHERE indexrelid::regclass::text LIKE '%named_at' AND indisvalid"
    assert rows(migrated, valid) == [(2,)]


def test_viewers_of_0_1_0_see_the_new_pages_of_misses_and_the_feed(migrated: dict[str, str]) -> None:
    granted = """
        SELECT codename FROM auth_permission JOIN auth_group_permissions ON permission_id = auth_permission.id
        JOIN auth_group ON auth_group.id = group_id
        WHERE auth_group.name = 'viewers' AND codename IN ('view_authormiss', 'view_feedfollowing') ORDER BY codename"""
    assert rows(migrated, granted) == [("view_authormiss",), ("view_feedfollowing",)]


def test_a_job_of_0_1_0_keeps_its_items_and_has_their_number(migrated: dict[str, str]) -> None:
    counted = "SELECT item_count, items_deleted_at, (SELECT count(*) FROM enrichment_jobitem) FROM enrichment_job"
    assert rows(migrated, counted) == [(2, None, 2)]
