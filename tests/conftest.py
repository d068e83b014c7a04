"""The environment and the servers of a test run, in place before Django reads its settings.

Nothing of the developer's `.env` and shell reaches the tests, except DATABASE_URL and REDIS_URL from the shell: without
them the run has embedded servers of its own under `.data/test`, which end with it. Workers of pytest-xdist share the
servers; each has a database (pytest-django names it after the worker) and a Redis database number to itself.
"""

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import django
import psycopg
import pytest
import redis
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import connection
from django.test import TransactionTestCase
from execnet.xspec import XSpec
from pytest_django import DjangoDbBlocker

from alexandria.development.embedded import servers
from alexandria.development.embedded.files import try_lock
from alexandria.env import BASE_DIR
from tests import tables

ENV_EXAMPLE = BASE_DIR / ".env.example"
FROM_THE_SHELL = {"DATABASE_URL", "REDIS_URL"}
FIXED = {"DJANGO_SETTINGS_MODULE": "alexandria.settings", "DEBUG": "on", "SECRET_KEY": "only-for-tests-" * 4}
OWN_SERVERS: list[str] = []


def settle_environment() -> None:
    """Gives every variable its documented default, be it empty, because `.env` only fills in what is not there."""
    documented = re.findall(r"^# ([A-Z_]+)=(.*)$", ENV_EXAMPLE.read_text(), re.MULTILINE)
    kept = {name: os.environ[name] for name in FROM_THE_SHELL if name in os.environ}
    os.environ.update(dict(documented) | FIXED | kept)


def own_data_folder() -> Path:
    """A folder under `.data/test` that no other test run uses at this moment; it stays ours until this process ends."""
    for number in itertools.count(1):
        folder = BASE_DIR / ".data" / "test" / str(number)
        servers.private_folder(folder)
        if try_lock(folder / "session.lock") is not None:
            return folder
    raise AssertionError


def start_servers() -> None:
    os.environ["ALEXANDRIA_DATA_DIR"] = str(own_data_folder())
    if not os.environ.get("DATABASE_URL"):
        servers.start(["postgres"])
        OWN_SERVERS.append("postgres")
        os.environ["DATABASE_URL"] = servers.database_url()
        spare_the_disk(servers.database_url())
    if not os.environ.get("REDIS_URL"):
        servers.start(["redis"])
        OWN_SERVERS.append("redis")
        os.environ["REDIS_URL"] = servers.redis_url()
        with redis.Redis.from_url(servers.redis_url()) as client:
            client.flushall()


def spare_the_disk(url: str) -> None:
    """Lets PostgreSQL not wait for the disk: no data of a test has to survive a power cut.

    Without autovacuum, no test finds estimates of rows that the tests before it left.
    """
    with psycopg.connect(url, autocommit=True) as session:
        for setting in ("fsync", "full_page_writes", "autovacuum"):
            session.execute(f"ALTER SYSTEM SET {setting} = off")
        session.execute("SELECT pg_reload_conf()")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[XSpec]) -> None:
    for number, spec in enumerate(specs, start=1):
        url = os.environ["REDIS_URL"]
        scheme, _, rest = url.partition("://")
        address, _, _ = rest.partition("?" if scheme == "unix" else "/")
        spec.env["REDIS_URL"] = f"{scheme}://{address}{'?db=' if scheme == 'unix' else '/'}{number}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets every worker of xdist begin with its share of the slow tests, so that none of these starts last.

    `--dist worksteal` gives each worker a block of this list.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]

    def share(of: list[pytest.Item], number: int) -> list[pytest.Item]:
        return of[len(of) * number // workers : len(of) * (number + 1) // workers]

    items[:] = [item for number in range(workers) for item in (*share(slow, number), *share(quick, number))]


def pytest_unconfigure() -> None:
    if OWN_SERVERS:
        servers.stop(OWN_SERVERS)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Empties the tables that migrations filled, so that the first test finds them as every other one does.

    After each test that commits, `tables.empty()` takes the place of Django's slow `flush`. At the end the database is
    dropped, which may take longer than a statement of ours may.
    """
    with django_db_blocker.unblock():
        tables.start_empty()
    with patch.object(TransactionTestCase, "_fixture_teardown", lambda _: tables.empty()):
        yield
    del connection.settings_dict["OPTIONS"]["options"]
    connection.close()


if "PYTEST_XDIST_WORKER" not in os.environ:
    settle_environment()
    start_servers()
django.setup()
PBKDF2PasswordHasher.iterations = 1  # nobody attacks the passwords of tests: the usual million takes half a second
