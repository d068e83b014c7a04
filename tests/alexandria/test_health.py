"""/livez and /healthz: they answer without a key, and whatever else is down."""

import pytest
from django.test import Client

from tests.fixtures import database_moved


@pytest.fixture
def client(transactional_db) -> Client:
    return Client()


@pytest.fixture
def redis_gone(settings) -> None:
    settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": "redis://127.0.0.1:1/0"}}


def test_all_is_well(client: Client) -> None:
    response = client.get("/healthz")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "database": True, "redis": True}


def test_without_redis_the_service_is_degraded_and_works(client: Client, redis_gone) -> None:
    response = client.get("/healthz")
    assert response.status_code == 200
    assert response.json() == {"status": "degraded", "database": True, "redis": False}


def test_without_postgresql_the_service_is_down(client: Client) -> None:
    with database_moved(port=1):
        response = client.get("/healthz")
    assert response.status_code == 503
    assert response.json() == {"status": "down", "database": False, "redis": True}


def test_the_process_lives_whatever_is_down(client: Client, redis_gone) -> None:
    with database_moved(port=1):
        response = client.get("/livez")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_probes_may_call_the_machine_by_its_address(client: Client) -> None:
    assert client.get("/livez", HTTP_HOST="10.1.2.3").status_code == 200
    assert client.get("/admin/login/", HTTP_HOST="10.1.2.3").status_code == 400


def test_probes_come_over_plain_http_in_production(client: Client, settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert [client.get(path).status_code for path in ("/livez", "/healthz", "/api/docs/")] == [200, 200, 301]
