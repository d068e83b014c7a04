"""A database of 0.1.0 migrates: its misses keep their meaning, and the old code can still write while it runs."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from django.db import connection

from tests import processes
from tests.alexandria.serving import run

OLD = "alexandria_of_0_1_0"
ROWS = """
    INSERT INTO enrichment_authormiss (name_key, name, asked_at) VALUES
        ('vernier zoe', 'Vernier, Zoe', '2026-05-01'), ('nobody', 'Nobody', '2026-05-02');
    INSERT INTO enrichment_miss (isbn13, asked_at) VALUES ('9780441172719', '2026-05-03');
    INSERT INTO harvest_cronstate (name, cursor) VALUES
        ('update-feed', '{"since": "2026-05-01", "pending": ["9780441172719"]}'), ('new-releases', '{"resume": "x"}')
    ON CONFLICT (name) DO UPDATE SET cursor = EXCLUDED.cursor"""
AS_OLD_CODE = """
    INSERT INTO enrichment_authormiss (name_key, name, asked_at) VALUES ('old code', 'Code, Old', '2026-05-04');
    INSERT INTO enrichment_miss (isbn13, asked_at) VALUES ('9780804429573', '2026-05-04')"""


@pytest.fixture
def old_database(transactional_db: None) -> Iterator[dict[str, str]]:
    """The environment of a process with a database of 0.1.0."""
    environment = processes.environment()
    url = urlsplit(environment["DATABASE_URL"])._replace(path=f"/{OLD}").geturl()
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(f"CREATE DATABASE {OLD}")
    environment |= {"DATABASE_URL": url}
    try:
        for app in ("enrichment", "harvest"):
            migrated = run(environment, "migrate", app, "0001")
            assert migrated.returncode == 0, migrated.stderr
        yield environment
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {OLD} WITH (FORCE)")


@pytest.mark.slow
def test_misses_of_0_1_0_keep_their_time_and_begin_with_the_first_step(old_database: dict[str, str]) -> None:
    with psycopg.connect(old_database["DATABASE_URL"], autocommit=True) as session:
        session.execute(ROWS)
        migrated = run(old_database, "migrate")
        assert migrated.returncode == 0, migrated.stderr
        session.execute(AS_OLD_CODE)

        authors = session.execute("SELECT name, asked_at::date::text, step FROM enrichment_authormiss ORDER BY name")
        assert authors.fetchall() == [
            ("Code, Old", "2026-05-04", 1),
            ("Nobody", "2026-05-02", 1),
            ("Vernier, Zoe", "2026-05-01", 1),
        ]
        misses = session.execute("SELECT isbn13, asked_at::date::text, step, named_at FROM enrichment_miss ORDER BY 1")
        assert misses.fetchall() == [("9780441172719", "2026-05-03", 1, None), ("9780804429573", "2026-05-04", 1, None)]
        cursors = session.execute("SELECT name, cursor FROM harvest_cronstate WHERE cursor <> '{}'")
        assert cursors.fetchall() == [("new-releases", {"resume": "x"})], "update-feed reads all seven days anew"
        valid = "SELECT count(*) FROM pg_index WHERE indexrelid::regclass::text LIKE '%named_at' AND indisvalid"
        assert session.execute(valid).fetchone() == (2,)
