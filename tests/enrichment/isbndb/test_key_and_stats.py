"""GET /isbndb/key and /isbndb/stats: the consumer's own plan, and what is stored."""

from typing import Any

import pytest
from django.test import Client

from alexandria.development.sandbox.server import Sandbox
from enrichment.models import Author, Edition
from quota.models import Consumer
from tests.fixtures import balance, known_isbns


def plan(isbndb: Client) -> dict[str, Any]:
    response = isbndb.get("/isbndb/key")
    assert (response.status_code, response.headers["X-Api-Calls"]) == (200, "0")
    assert response.json()["api_host"] == "http://testserver/isbndb"
    found: dict[str, Any] = response.json()["plan_limit"]
    return found


def test_the_key_tells_the_consumers_own_plan(isbndb: Client, sandbox: Sandbox) -> None:
    assert plan(isbndb) == {"total": 13_000, "spent": 0, "left": 13_000}
    isbndb.get(f"/isbndb/book/{known_isbns(1)[0]}")
    assert plan(isbndb) == {"total": 13_000, "spent": 1, "left": 12_999}
    Consumer.objects.update(floor=2_000)
    assert plan(isbndb) == {"total": 11_000, "spent": 1, "left": 10_999}
    Consumer.objects.update(daily_budget=100)
    assert plan(isbndb) == {"total": 100, "spent": 1, "left": 99}
    assert balance(sandbox) == (1, 1)


@pytest.mark.usefixtures("sandbox")
def test_the_stats_count_what_is_stored(isbndb: Client) -> None:
    assert isbndb.get("/isbndb/stats").json() == {"books": 0, "authors": 0, "publishers": 0, "subjects": 0}
    isbndb.post("/isbndb/books", {"isbns": known_isbns(20)}, content_type="application/json")
    editions = list(Edition.objects.all())
    assert isbndb.get("/isbndb/stats").json() == {
        "books": len(editions),
        "authors": Author.objects.count(),
        "publishers": len({edition.publisher for edition in editions} - {""}),
        "subjects": len({subject for edition in editions for subject in edition.subjects}),
    }
