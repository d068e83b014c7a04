"""GET /api/stats counts what is stored, in a fixed number of queries."""

import pytest
from django.db import connection
from rest_framework.test import APIClient

from enrichment.models import Author, Edition, Miss, QueuedIsbn, Work
from enrichment.selectors import stats
from quota.services import reservations
from tests.fixtures import NOON, database_moved, problem
from tests.rows import ISBN, fill


@pytest.fixture(autouse=True)
def stored(transactional_db: None) -> None:
    """Seven books of three works, five authors, two misses, an ISBN in the queue."""
    work = Work.objects.create(title="Dune", title_key="dune", author_key="frank herbert")
    fill(Work, 2)
    times = {"synced_at": NOON, "created_at": NOON, "updated_at": NOON}
    Edition.objects.create(isbn13=ISBN, work=work, raw={}, content_hash="0" * 32, **times)
    fill(Edition, 6)
    Author.objects.create(name="Frank Herbert", name_key="frank herbert")
    fill(Author, 4)
    Miss.objects.create(isbn13=ISBN, asked_at=NOON)
    fill(Miss, 1)
    QueuedIsbn.objects.create(isbn13=ISBN, asked_at=NOON)


def test_everything_is_counted_and_today_s_calls_are_told(api: APIClient) -> None:
    reservations.increment(12)
    response = api.get("/api/stats")
    assert response.status_code == 200
    body = response.json()
    quota = body.pop("quota")
    assert body == {"books": 7, "works": 3, "authors": 5, "misses": 2, "queued": 1, "exact": True}
    assert (quota["used"], quota["remaining"]) == (12, 12_988)
    assert response.headers["RateLimit"].startswith('"daily";r=12988;')


def test_a_large_table_is_estimated_and_the_answer_says_so(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "MAX_COUNTED", 500)
    fill(Edition, 2_993)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE enrichment_edition")
    body = api.get("/api/stats").json()
    assert (body["books"], body["works"], body["exact"]) == (3_000, 3, False)


def test_without_postgresql_the_answer_is_503(api_without_key_check: APIClient) -> None:
    with database_moved(port=1):
        assert problem(api_without_key_check.get("/api/stats"), 503)["code"] == "database_unavailable"
