"""Whose job a worker takes: consumers take turns, and one without a running job does not wait for a turn's end."""

from datetime import timedelta
from unittest.mock import patch

import pytest

from alexandria.development.sandbox.server import Sandbox
from enrichment.jobs import claims, workers
from enrichment.jobs.lifecycle import create_job
from enrichment.jobs.workers import run_job
from enrichment.models import Job
from quota.models import Consumer
from tests.enrichment.jobs.test_jobs import during_request
from tests.fixtures import balance, known_isbns

KNOWN = known_isbns(31)
UNDER_WAY = 4

pytestmark = pytest.mark.usefixtures("consumer", "sandbox")


@pytest.fixture(autouse=True)
def small_batches(settings, monkeypatch) -> None:
    settings.ISBNDB_BATCH_SIZE, settings.QUOTA_MAX_RPS = 3, 50
    monkeypatch.setattr("enrichment.gateway.asking.MAX_UNDER_WAY", UNDER_WAY)
    monkeypatch.setattr(workers, "MIN_TURN", timedelta())
    monkeypatch.setattr("enrichment.selectors.books.JUST_NOW", timedelta())


def create(slug: str, isbns: list[str]) -> Job:
    consumer, _ = Consumer.objects.get_or_create(slug=slug)
    return create_job(consumer=consumer, kind=Job.Kind.BATCH_DIRECT, wanted={"isbns": isbns, "refresh": True})


def requests_before_the_newcomer(sandbox: Sandbox) -> int:
    """Six large jobs of a consumer, one worker, and a single ISBN of another one while the third request runs."""
    for _ in range(6):
        create("reader", KNOWN[:30])
    before = len(sandbox.requests)
    during_request(sandbox, 3, lambda: create("other", KNOWN[30:]))
    while Job.objects.filter(state="queued").exists():
        run_job()
    asked = [request["asked"] for request in sandbox.requests[before:]]
    assert Job.objects.filter(state="succeeded").count() == 7
    Job.objects.all().delete()
    return asked.index(1)


@pytest.mark.slow
def test_a_newcomer_waits_for_what_is_under_way_and_without_the_rule_for_a_turn(sandbox: Sandbox) -> None:
    meet = sandbox.faults.meet
    with patch.object(workers, "claim_newcomer", return_value=None):
        assert requests_before_the_newcomer(sandbox) >= 10
    sandbox.faults.meet = meet
    assert requests_before_the_newcomer(sandbox) <= 3 + UNDER_WAY
    assert balance(sandbox)[0] == balance(sandbox)[1]


def test_consumers_take_turns_and_the_jobs_of_one_too() -> None:
    jobs = [create("reader", KNOWN[:3]), create("reader", KNOWN[:3]), create("other", KNOWN[:3])]
    order = []
    for _ in range(6):
        job = claims.claim_next()
        assert job is not None
        order.append(jobs.index(job))
        workers._put_back(job)
    assert order == [0, 2, 1, 2, 0, 2]


def test_a_job_of_a_command_is_never_given_to_a_worker() -> None:
    create("reader", KNOWN[:3])
    Job.objects.update(attended=True)
    assert claims.claim_next() is None
    assert claims.claim_newcomer(other_than=Job(consumer_id=0)) is None


def test_a_consumer_with_a_running_job_is_no_newcomer() -> None:
    create("other", KNOWN[:3])
    create("other", KNOWN[:3])
    job = create("reader", KNOWN[:3])
    first = claims.claim_newcomer(other_than=job)
    assert first is not None
    assert first.consumer.slug == "other"
    assert claims.claim_newcomer(other_than=job) is None
