"""Real lists of ISBNs, wrong ones and all, through the API, with the counts that ISBNdb's own record confirms."""

import csv
from math import ceil
from pathlib import Path

import pytest
from rest_framework.test import APIClient

from alexandria.development.sandbox.server import Sandbox
from enrichment.models import Edition, Miss
from tests.fixtures import balance

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "alexandria" / "data" / "demo_isbns.txt"
BESTSELLERS = ROOT.parent / "shared" / "data" / "bestsellers.csv"


def bundled() -> list[str]:
    return [line for line in BUNDLED.read_text().splitlines() if line.strip() and not line.startswith("#")]


def bestsellers() -> list[str]:
    if not BESTSELLERS.exists():
        pytest.skip(f"{BESTSELLERS} is not here")
    with BESTSELLERS.open(newline="") as file:
        return [row["ISBN-13"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("read", [bundled, bestsellers])
@pytest.mark.parametrize("batch_size", [1000, 100])
def test_a_real_list_is_enriched_with_the_counts_that_isbndb_confirms(
    read, batch_size: int, api: APIClient, sandbox: Sandbox, settings
) -> None:
    settings.ISBNDB_BATCH_SIZE = batch_size
    isbns = read()
    answer = api.post("/api/enrich/batch-direct", {"isbns": isbns}, format="json").json()

    assert answer["requested"] == len(isbns) >= 200
    assert len(answer["invalid"]) > 20
    assert answer["valid"] == answer["enriched"] + answer["not_found"]
    assert answer["api_calls"] == ceil(answer["valid"] / batch_size)
    asked = sum(request["asked"] for request in sandbox.requests)
    found = sum(request["found"] for request in sandbox.requests)
    assert (asked, found) == (answer["valid"], answer["found"])
    assert (Edition.objects.count(), Miss.objects.count()) == (found, asked - found)
    assert balance(sandbox) == (answer["api_calls"], answer["api_calls"])

    again = api.post("/api/enrich/batch-direct", {"isbns": isbns}, format="json").json()
    assert (again["already_fresh"], again["not_found"], again["api_calls"]) == (found, asked - found, 0)
