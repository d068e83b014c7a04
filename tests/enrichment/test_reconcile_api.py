"""POST /api/quota/reconcile, over HTTP."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from alexandria.development.sandbox.server import Sandbox
from quota.models import Consumer
from quota.selectors.status import get_status
from quota.services import reservations
from tests.fixtures import balance, problem

PATH = "/api/quota/reconcile"


def test_the_answer_has_both_counters_and_costs_the_consumer_one_call(sandbox: Sandbox, api: APIClient) -> None:
    answer = api.post(PATH)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["spent"], body["used"], body["drift"], body["raised_by"], body["ignored"]) == (1, 1, 0, 0, "")
    assert (body["api_calls"], body["quota"]["used"]) == (1, 1)
    assert body["duration_ms"] >= 0
    assert answer.headers["RateLimit"].startswith('"daily";r=12999;')
    assert balance(sandbox) == (1, 1)


def test_calls_that_only_isbndb_counts_are_added_to_our_ledger(sandbox: Sandbox, api: APIClient) -> None:
    reservations.open_ledger()
    sandbox.set_limits(spent=7)
    assert api.post(PATH).json()["raised_by"] == 7
    assert get_status().used == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "status", "code", "calls"),
    [
        ({"kind": "status", "status": 500}, 502, "isbndb_failed", 3),
        ({"kind": "status", "status": 403}, 502, "isbndb_failed", 1),
        ({"kind": "latency", "seconds": 60}, 504, "isbndb_timeout", 1),
    ],
    ids=["ISBNdb fails", "our key is refused", "no answer"],
)
def test_a_failure_of_isbndb_is_reported_with_its_cost(
    sandbox: Sandbox, api: APIClient, settings, fault: dict[str, Any], status: int, code: str, calls: int
) -> None:
    if code == "isbndb_timeout":
        settings.ISBNDB_TIMEOUT_SECONDS = 0.5
    sandbox.add_fault(**fault)
    body = problem(api.post(PATH), status)
    assert (body["code"], body["api_calls"], body["quota"]["used"]) == (code, calls, calls)
    assert balance(sandbox) == (calls, calls)


def test_without_calls_left_the_answer_is_429_and_nothing_is_sent(sandbox: Sandbox, api: APIClient) -> None:
    Consumer.objects.update(daily_budget=0)
    answer = api.post(PATH)
    assert (answer.status_code, answer.json()["limit"], answer.json()["api_calls"]) == (429, "daily_budget", 0)
    assert balance(sandbox) == (0, 0)


def test_without_an_api_key_the_answer_is_401(api: APIClient) -> None:
    api.credentials()
    assert api.post(PATH).status_code == 401
