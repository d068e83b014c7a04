"""Real lists of ISBNs, with their mistakes, through the API: the counts match ISBNdb's own."""

import csv
from math import ceil
from pathlib import Path

import pytest
from rest_framework.test import APIClient

from alexandria.development.sandbox.server import Sandbox
from alexandria.env import BASE_DIR
from enrichment.models import Edition, Miss
from tests.fixtures import balance
from tests.lists import folder_of, lists

BUNDLED = BASE_DIR / "alexandria" / "development" / "data" / "demo_isbns.txt"


def read(path: Path) -> list[str]:
    """The ISBNs of a table with a column ISBN-13, or of a list with one ISBN on each line."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix == ".csv":
            return [row["ISBN-13"] for row in csv.DictReader(file)]
        return [line.rstrip("\r\n") for line in file if line.strip() and not line.startswith("#")]


@pytest.mark.slow
@pytest.mark.parametrize("path", [BUNDLED, *lists("bestsellers.csv")], ids=folder_of)
@pytest.mark.parametrize("batch_size", [1000, 100])
def test_a_real_list_is_enriched_with_counts_that_match_isbndbs(
    path: Path, batch_size: int, api: APIClient, sandbox: Sandbox, settings
) -> None:
    settings.ISBNDB_BATCH_SIZE = batch_size
    isbns = read(path)
    answer = api.post("/api/enrich/batch-direct", {"isbns": isbns}, format="json").json()

    assert answer["requested"] == sum(1 for isbn in isbns if isbn) >= 200  # some cells of the real table are empty
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
