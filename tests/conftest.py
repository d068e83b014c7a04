"""Sets up the environment and the servers of a test run before Django reads its settings.

The tests ignore the developer's `.env` and shell, except DATABASE_URL and REDIS_URL of the shell. Without these, the
run starts its own embedded servers under `.data/test`, and stops them at the end. The workers of pytest-xdist share
the servers. Each worker has its own database (pytest-django names it after the worker) and Redis database number.
"""

import gc
import itertools
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import django
import psycopg
import pytest
import redis
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import connection
from django.test import TransactionTestCase
from execnet.xspec import XSpec
from hypothesis import settings as hypothesis_settings
from pytest_django import DjangoDbBlocker

from alexandria.development.embedded import servers
from alexandria.development.embedded.files import try_lock
from alexandria.env import BASE_DIR
from tests import environment, tables

FROM_THE_SHELL = {"DATABASE_URL", "REDIS_URL"}
FIXED = {
    "DJANGO_SETTINGS_MODULE": "alexandria.settings",
    "DEBUG": "on",
    "SECRET_KEY": "only-for-tests-" * 4,
    "ISBNDB_BATCH_PRICE": "request",
}
OWN_SERVERS: list[str] = []

# An example may take long: the machine can be busy.
hypothesis_settings.register_profile("patient", hypothesis_settings.default, deadline=None)
hypothesis_settings.load_profile("patient")


def settle_environment() -> None:
    kept = {name: os.environ[name] for name in FROM_THE_SHELL if name in os.environ}
    os.environ.update(environment.documented() | FIXED | kept)


def own_data_folder() -> Path:
    """A folder under `.data/test` that no other test run uses. This process keeps it until it ends."""
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
    """Makes PostgreSQL not wait for the disk, because no data of a test has to survive a power cut.

    Autovacuum is off, so no test sees estimates of rows that earlier tests have left.
    """
    with psycopg.connect(url, autocommit=True) as session:
        for setting in ("fsync", "full_page_writes", "autovacuum"):
            session.execute(f"ALTER SYSTEM SET {setting} = off")
        session.execute("SELECT pg_reload_conf()")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[XSpec]) -> None:
    for number, spec in enumerate(specs, start=1):
        spec.env["REDIS_URL"] = numbered_redis(number)


def numbered_redis(number: int) -> str:
    """The URL of this database of the Redis of the run."""
    scheme, _, rest = os.environ["REDIS_URL"].partition("://")
    address, _, _ = rest.partition("?" if scheme == "unix" else "/")
    return f"{scheme}://{address}{'?db=' if scheme == 'unix' else '/'}{number}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Makes every worker of xdist begin with its share of the slow tests, so that none of these starts last.

    `--dist worksteal` gives each worker a block of this list, and steals from the end of a block. So the browser tests,
    which come first, all run in one worker, with one browser and one web process.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    slow.sort(key=lambda item: "browser" not in item.path.parts)
    quick = [item for item in items if not item.get_closest_marker("slow")]

    def share(of: list[pytest.Item], number: int) -> list[pytest.Item]:
        return of[len(of) * number // workers : len(of) * (number + 1) // workers]

    items[:] = [item for number in range(workers) for item in (*share(slow, number), *share(quick, number))]


def pytest_collection_finish() -> None:
    """Makes the garbage collector ignore all modules and tests from now on: to visit them takes a tenth of the run."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    if OWN_SERVERS:
        servers.stop(OWN_SERVERS)


@pytest.fixture(autouse=True)
def own_answers_folder(settings: Any) -> None:
    """No test stores what another one has put aside."""
    settings.ANSWERS_DIR = f"{os.environ['ALEXANDRIA_DATA_DIR']}/answers/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Empties the tables that migrations filled, so that the first test finds the same as every other test.

    After each test that commits, `tables.empty()` replaces Django's slow `flush`, and its messages are deleted. At the
    end the database is dropped without our time limit for statements, because this can take longer.
    """
    from alexandria.monitoring.workers import QUEUES  # it reads the settings

    with django_db_blocker.unblock():
        tables.start_empty()
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as broker:

        def clean_up(_: TransactionTestCase) -> None:
            tables.empty()
            # The worker of a later test would take them first, and a check of the alerts takes up to ten seconds.
            broker.delete(*QUEUES, "unacked", "unacked_index")

        with patch.object(TransactionTestCase, "_fixture_teardown", clean_up):
            yield
    del connection.settings_dict["OPTIONS"]["options"]
    connection.close()


@pytest.fixture(autouse=True)
def no_wrong_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has seen no wrong key yet: tests send many, all from one address."""
    from quota import authentication, wrong_keys  # they read the settings

    monkeypatch.setattr(authentication, "WRONG_KEYS", wrong_keys.WrongKeys())


if "PYTEST_XDIST_WORKER" not in os.environ:
    settle_environment()
    start_servers()
django.setup()
PBKDF2PasswordHasher.iterations = 1  # tests need no safe passwords, and the usual million takes half a second
