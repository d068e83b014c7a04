"""What the tests of several apps stand on: a database whose clock is set, a consumer, a sandbox, the API."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from rest_framework.test import APIClient

from alexandria.sandbox.server import Sandbox
from enrichment import gateway
from quota.models import Consumer, ConsumerKey

SetClock = Callable[[datetime], None]


def set_database_clock(moment: datetime) -> timedelta:
    """Lets the quota's clock go on from `moment`; returns how far it is ahead of the real one."""
    ahead = moment - datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION quota_now() RETURNS timestamptz LANGUAGE sql VOLATILE "
            f"AS $$ SELECT clock_timestamp() + interval '{ahead.total_seconds()} seconds' $$"
        )
    return ahead


@pytest.fixture
def set_clock(transactional_db: None) -> Iterator[SetClock]:
    """Sets the quota's clock, for every process that uses the database. It starts at noon: tests run at any hour."""
    real = (
        "CREATE OR REPLACE FUNCTION quota_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()'"
    )
    set_database_clock(datetime(2026, 5, 5, 12, tzinfo=UTC))
    yield set_database_clock
    with connection.cursor() as cursor:
        cursor.execute(real)


@pytest.fixture
def consumer(set_clock: SetClock) -> Consumer:
    return Consumer.objects.create(slug="reader")


@pytest.fixture
def sandbox(settings) -> Iterator[Sandbox]:
    """A real HTTP server that speaks ISBNdb, with no limit on the pace unless the test sets one."""
    with Sandbox(max_rps=None) as server:
        settings.ISBNDB_BASE_URL = server.url
        settings.ISBNDB_API_KEY = server.key
        settings.ISBNDB_TIMEOUT_SECONDS = 5
        settings.QUOTA_MAX_RPS = 1000  # a test of something else need not wait for the pace
        yield server
        gateway.close_connections()


@pytest.fixture
def api(consumer: Consumer) -> APIClient:
    """A client of the API with the key of `consumer`."""
    _, key = ConsumerKey.objects.create_key(name="test", consumer=consumer)
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    return client
