"""Fixtures for the tests of several apps: a database whose clock is set, a consumer, a sandbox, the API."""

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from celery import current_app
from django.db import connection
from django.db.models import F
from django.test import override_settings
from rest_framework.test import APIClient

from alexandria.development.sandbox import isbns
from alexandria.development.sandbox.server import Sandbox
from alexandria.env import BASE_DIR
from enrichment.gateway import asking
from enrichment.gateway.asking import MAX_LATE_SECONDS
from enrichment.gateway.connection import close_connections
from enrichment.models import AuthorMiss, Edition, ListedAuthor, Miss
from quota.models import Consumer, ConsumerKey, DailyLedger, Reconciliation
from quota.selectors.status import check_ledger, get_status
from quota.services import reservations
from quota.services.reservations import DispatchedCall
from quota.spending import Spender

SetClock = Callable[[datetime], timedelta]
At = Callable[[float], None]
NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)

QUOTA_NOW, REAL_CLOCK = re.findall(
    r"^CREATE (FUNCTION quota_now\(\).*) AS '(.*)';$",
    (BASE_DIR / "quota" / "sql" / "functions.sql").read_text(),
    re.MULTILINE,
)[0]
"""The head and the body of the quota's clock, from the file with the SQL functions: tests set it back to that."""


def known_isbns(count: int) -> list[str]:
    """Different ISBN-13s that the sandbox knows."""
    return [isbns.isbn13_at(7_000, position) for position in range(count)]


def unknown_isbns(count: int) -> list[str]:
    """Different valid ISBN-13s that the sandbox does not know."""
    return [isbns.isbn13_at(7_000, isbns.KNOWN_PER_SLOT + position) for position in range(count)]


def balance(sandbox: Sandbox) -> tuple[int, int]:
    """Today's calls as ISBNdb and as we count them. No call is reserved, and the ledger is the sum of its rows."""
    reservations.open_ledger()
    status = get_status()
    assert status.reserved == 0
    assert check_ledger(status.day) == []
    return sandbox.spent, status.used


def problem(response: Any, status: int) -> dict[str, Any]:
    """The body of an error, which must be a problem with that status."""
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(response.content)
    assert body["status"] == status
    assert body["type"].startswith("urn:alexandria:problem:")
    assert body["title"]
    assert body["detail"]
    return body


def a_minute_passes() -> None:
    """Makes all answers of ISBNdb a minute older, so that a refresh asks again."""
    minute = timedelta(minutes=1)
    Edition.objects.update(synced_at=F("synced_at") - minute)
    for model in (Miss, AuthorMiss):
        model.objects.update(asked_at=F("asked_at") - minute)
    ListedAuthor.objects.update(listed_at=F("listed_at") - minute)


@contextmanager
def database_moved(port: int) -> Iterator[None]:
    """Makes this thread look for PostgreSQL on another port of this machine."""
    connection.close()
    with patch.dict(connection.settings_dict, HOST="127.0.0.1", PORT=port):
        yield
        connection.close()


def database_away(seconds: float, back: Event | None = None) -> None:
    """Ends every session of the test's database, and lets no other begin for so long. Then sets `back`."""
    name = connection.settings_dict["NAME"]
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as elsewhere:
        elsewhere.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            elsewhere.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            time.sleep(seconds)
        finally:
            elsewhere.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    if back is not None:
        back.set()


@contextmanager
def patient_database() -> Iterator[None]:
    """Lets new connections wait minutes for PostgreSQL and for a lock, for tests with many threads at once."""
    patience = {"connect_timeout": 300, "options": "-c lock_timeout=5min -c statement_timeout=5min"}
    with patch.dict(connection.settings_dict["OPTIONS"], patience):
        yield


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def broker_moved(port: int) -> Iterator[None]:
    """This process publishes to another port."""
    with (
        override_settings(CELERY_BROKER_URL=f"redis://127.0.0.1:{port}/0"),
        patch.object(current_app.amqp, "_producer_pool", None),
    ):
        yield


def _replace_database_clock(body: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE OR REPLACE {QUOTA_NOW} AS $$ {body} $$")


def set_database_clock(moment: datetime) -> timedelta:
    """Makes the quota's clock run from `moment` on. Returns how far it is ahead of the real one."""
    ahead = moment - datetime.now(UTC)
    _replace_database_clock(f"SELECT clock_timestamp() + interval '{ahead.total_seconds()} seconds'")
    return ahead


def stop_database_clock(moment: datetime) -> None:
    """Stops the quota's clock at `moment`."""
    _replace_database_clock(f"SELECT timestamptz '{moment.isoformat()}'")


@contextmanager
def changed_function(name: str, old: str, new: str) -> Iterator[None]:
    """Replaces `old`, which its text holds once, in an SQL function of the quota; for every process, until the end."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = %s", [name])
        definition = cursor.fetchone()[0]
        assert definition.count(old) == 1
        cursor.execute(definition.replace(old, new))
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(definition)


@contextmanager
def slots_far_ahead() -> Iterator[None]:
    """Gives out every slot at once, however far ahead it is, when a test sends nothing and so need not wait for it."""
    with changed_function("quota_slots_ahead", "CASE WHEN urgent THEN 2 ELSE 1 END", "1000000"):
        yield


@pytest.fixture
def no_waits(transactional_db: None) -> Iterator[None]:
    """No dispatch waits for the pace: see slots_far_ahead."""
    with slots_far_ahead():
        yield


@pytest.fixture
def set_clock(transactional_db: None) -> Iterator[SetClock]:
    """Sets the quota's clock, for every process that uses the database. It starts at noon: tests run at any hour."""
    set_database_clock(NOON)
    yield set_database_clock
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE OR REPLACE {QUOTA_NOW} AS '{REAL_CLOCK}'")


@pytest.fixture
def at(set_clock: SetClock) -> At:
    """Sets the quota's clock to so many seconds after noon, and stops it there. It begins at noon."""

    def move(seconds: float) -> None:
        stop_database_clock(NOON + timedelta(seconds=seconds))

    move(0)
    return move


@pytest.fixture
def consumer(set_clock: SetClock) -> Consumer:
    return Consumer.objects.create(slug="reader")


@pytest.fixture
def sandbox(settings) -> Iterator[Sandbox]:
    """A real HTTP server that imitates ISBNdb at noon, without a limit of the pace unless the test sets one.

    Retries wait only for the pace, unless the test sets FIRST_RETRY_PAUSE_SECONDS. A request that a busy machine sends
    late goes out all the same, unless the test uses `late_requests`. The timeout is the longest one that a setting
    allows, so that no request of a busy machine reaches it, and a process that a test kills still waits for ISBNdb. A
    test about timeouts sets a short one.
    """
    no_back_off = patch.object(asking, "FIRST_RETRY_PAUSE_SECONDS", 0.0)
    no_pause = patch.object(asking, "SMALLER_PAGE_PAUSE_SECONDS", 0.0)
    never_late = patch.object(asking, "MAX_LATE_SECONDS", 60.0)
    # Most tests count requests, so a batch costs one call, for the sandbox and in the settings of the tests.
    with Sandbox(max_rps=None, batch_price="request") as server, no_back_off, no_pause, never_late:
        server.set_clock(offset_seconds=(NOON - datetime.now(UTC)).total_seconds())
        settings.ISBNDB_BASE_URL = server.url
        settings.ISBNDB_API_KEY = server.key
        settings.ISBNDB_TIMEOUT_SECONDS = 60
        settings.QUOTA_MAX_RPS = 1000  # only tests of the pace wait for it
        yield server
        close_connections()


@pytest.fixture
def one_at_a_time() -> Iterator[None]:
    """Every operation has one request under way, so that the test knows the order of what happens."""
    with patch.object(asking, "MAX_UNDER_WAY", 1):
        yield


@pytest.fixture
def late_requests(sandbox: Sandbox) -> Iterator[None]:
    """A request that is late does not go out, but gets another send time."""
    with patch.object(asking, "MAX_LATE_SECONDS", MAX_LATE_SECONDS):
        yield


@pytest.fixture
def plenty_left(consumer: Consumer) -> None:
    """ISBNdb's counter was asked a moment ago and has plenty left, so a 404 to a listing costs no question."""
    reservations.open_ledger()
    ledger = DailyLedger.objects.get()
    Reconciliation.objects.create(
        ledger=ledger, answered_at=NOON, spent=0, total=15_000, left=15_000, used=0, in_flight=0
    )


@pytest.fixture
def key(consumer: Consumer) -> str:
    """An API key of `consumer`."""
    _, key = ConsumerKey.objects.create_key(name="test", consumer=consumer)
    return key


@pytest.fixture
def api(key: str) -> APIClient:
    """A client of the API with the key of `consumer`."""
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    return client


@pytest.fixture
def api_without_key_check() -> APIClient:
    """A client of the API that is authenticated without a query."""
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(Consumer(slug="reader"))  # type: ignore[arg-type]  # the stubs know only Django's users
    return client


def dispatched(spender: Spender, *request: Any, **options: Any) -> DispatchedCall:
    """Dispatches the request, as soon as the pace has a send time for it."""
    while isinstance(answer := spender.dispatch(*request, **options), timedelta):
        reservations.sleep_until(time.monotonic() + answer.total_seconds())
    return answer


def jain(counts: Iterable[int]) -> float:
    """Jain's index: 1 when all counts are equal, 1/n when one of n has everything."""
    figures = list(counts)
    return sum(figures) ** 2 / (len(figures) * sum(figure**2 for figure in figures))
