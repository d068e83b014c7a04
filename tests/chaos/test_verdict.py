"""The verdict of `make chaos` finds each kind of fault: one is made, and named."""

import httpx2
import pytest

from alexandria.development.sandbox.server import Sandbox
from enrichment.models import Edition, EditionAuthor
from enrichment.services.enrich import enrich_isbns
from enrichment.services.reconciliation import reconcile
from quota.models import Call, Consumer, DailyLedger
from tests.chaos.load import Promises
from tests.chaos.verdict import Verdict, judge
from tests.fixtures import NOON, known_isbns

ISBNS = known_isbns(3)


@pytest.fixture
def promises(sandbox: Sandbox, consumer: Consumer) -> Promises:
    """What a client was promised that got three books."""
    enrich_isbns(ISBNS, consumer="reader")
    return Promises(stored=set(ISBNS))


def judged(sandbox: Sandbox, promises: Promises) -> str:
    verdict: Verdict = judge(sandbox, promises, {})
    return "\n".join(verdict.wrong)


def test_nothing_is_wrong_when_nothing_was_broken(sandbox: Sandbox, promises: Promises) -> None:
    assert judged(sandbox, promises) == ""


def test_a_request_without_a_dispatch_is_found(sandbox: Sandbox, promises: Promises) -> None:
    httpx2.get(f"{sandbox.url}/book/{ISBNS[0]}", headers={"Authorization": sandbox.key})
    wrong = judged(sandbox, promises)
    assert "ISBNdb counted 2 calls, we 1: never under" in wrong
    assert "requests is in the journal. Wrong: ('2026-05-05', 'GET', '/book/" in wrong


def test_calls_beyond_what_was_on_its_way_are_found(sandbox: Sandbox, promises: Promises) -> None:
    Call.objects.update(calls=2)
    DailyLedger.objects.update(used=2)
    assert "over by 1, at most the price of what was on its way at a kill or an outage (0)" in judged(sandbox, promises)


def test_calls_that_isbndb_claims_when_it_closes_the_day_are_not_ours(sandbox: Sandbox, promises: Promises) -> None:
    sandbox.add_fault("daily_limit", times=1)
    reconcile(consumer="reader")
    assert DailyLedger.objects.get().closed_at is not None
    assert judged(sandbox, promises) == ""


def test_a_request_without_an_outcome_needs_a_kill_or_an_outage(sandbox: Sandbox, promises: Promises) -> None:
    Call.objects.update(outcome="unknown")
    [row] = Call.objects.all()
    assert "was on its way at a kill or an outage. Wrong: " + str(row.pk) in judged(sandbox, promises)
    assert judge(sandbox, promises, {row.pk: 1}).wrong == []


def test_send_times_that_are_too_near_to_each_other_are_found(sandbox: Sandbox, promises: Promises) -> None:
    enrich_isbns(known_isbns(4), consumer="reader")
    DailyLedger.objects.update(max_rps=1)
    Call.objects.update(send_at=NOON)
    assert "2 send times in a second, at most 1. Wrong: 2" in judged(sandbox, promises)


def test_reserved_calls_are_found(sandbox: Sandbox, promises: Promises) -> None:
    DailyLedger.objects.update(reserved=1)
    assert "2026-05-05: nothing is reserved. Wrong: 1" in judged(sandbox, promises)


def test_a_book_without_its_author_or_with_another_title_is_found(sandbox: Sandbox, promises: Promises) -> None:
    EditionAuthor.objects.filter(edition=ISBNS[0]).delete()
    Edition.objects.filter(pk=ISBNS[1]).update(title="Half a")
    wrong = judged(sandbox, promises)
    assert f"{ISBNS[0]}: its authors are []" in wrong
    assert f"{ISBNS[1]}: title is 'Half a'" in wrong


def test_what_was_promised_and_is_not_there_is_found(sandbox: Sandbox, promises: Promises) -> None:
    promises.jobs.add("9a4c1d4e-0000-0000-0000-000000000000")
    promises.queued.add("9780000000002")
    Edition.objects.filter(pk=ISBNS[0]).delete()
    wrong = judged(sandbox, promises)
    assert "accepted jobs is there. Wrong: 9a4c1d4e" in wrong
    assert "queued ISBNs is stored, known to be unknown, or shown as failed. Wrong: 9780000000002" in wrong
    assert f"ISBNs that clients got is stored. Wrong: {ISBNS[0]}" in wrong
