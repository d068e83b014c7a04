"""Pruning of the journal: deletes calls, reservations and refusals after JOURNAL_KEEP_DAYS, and never a ledger."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from alexandria.development.sandbox.server import Sandbox
from enrichment.jobs.lifecycle import cancel_job, create_job, pause_job
from enrichment.jobs.pruning import prune_items
from enrichment.jobs.workers import run_job
from enrichment.models import Job, JobAuthor, JobItem
from harvest.models import HarvestRun
from harvest.runs import run_cron
from quota.exceptions import QuotaRefused
from quota.models import Call, Consumer, ConsumerUsage, DailyLedger, Reconciliation, Refusal, Reservation
from quota.prices import RequestKind
from quota.selectors.status import check_ledger
from quota.services import pruning
from quota.services import reservations as quota
from tests.fixtures import NOON, SetClock, balance, known_isbns, problem, unknown_isbns

pytestmark = pytest.mark.usefixtures("defaults", "consumer", "sandbox")


def spend(calls: int) -> None:
    reservation, _, _ = quota.reserve_and_dispatch(
        consumer="reader", operation="test", calls=calls, kind=RequestKind.PAGE, method="GET", path="/author/x"
    )
    for _ in range(calls - 1):
        quota.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")
    quota.settle(reservation)


def refused() -> None:
    with pytest.raises(QuotaRefused):
        quota.reserve(consumer="reader", operation="test", calls=20_000)


def job() -> Job:
    wanted = {"isbns": known_isbns(2), "refresh": True}
    return create_job(consumer=Consumer.objects.get(slug="reader"), kind=Job.Kind.BATCH_DIRECT, wanted=wanted)


@pytest.mark.slow
def test_an_old_journal_is_deleted_and_the_ledgers_stay(
    settings, sandbox: Sandbox, set_clock: SetClock, monkeypatch
) -> None:
    settings.JOURNAL_KEEP_DAYS = 30
    monkeypatch.setattr(pruning, "CHUNK", 2)
    monkeypatch.setattr("enrichment.selectors.books.JUST_NOW", timedelta())
    run_cron("reconciliation")
    spend(4)
    refused()
    job()
    run_job()
    going_on = pause_job(job().pk)
    quota.reserve(consumer="reader", operation="test", calls=1)
    set_clock(NOON + timedelta(days=1))
    spend(2)
    refused()
    new = job()
    run_job()
    set_clock(NOON + timedelta(days=31))
    ledgers = list(DailyLedger.objects.values_list("day", "used"))
    under_way = HarvestRun.objects.create(cron="stale-refresh", started_at=NOON)

    run = run_cron("prune-journal")
    assert (run.outcome, run.calls) == ("succeeded", 0)
    assert {str(call.ledger_id) for call in Call.objects.all()} == {"2026-05-06"}
    assert Call.objects.count() == 3
    assert [str(refusal.ledger_id) for refusal in Refusal.objects.all()] == ["2026-05-06"]
    assert list(Reservation.objects.values_list("ledger_id", "state")) == [
        (NOON.date() + timedelta(days=1), "settled"),
        (NOON.date() + timedelta(days=1), "settled"),
        (NOON.date(), "open"),
    ], "the open reservation stays until its lease expires"
    assert not HarvestRun.objects.filter(cron="reconciliation").exists()
    assert HarvestRun.objects.filter(pk=under_way.pk).exists(), "it has not ended"
    assert Reconciliation.objects.get().call is None
    assert list(DailyLedger.objects.values_list("day", "used")) == ledgers
    assert ConsumerUsage.objects.filter(ledger=NOON.date(), consumer__slug="reader").get().used == 5
    assert check_ledger(NOON.date() + timedelta(days=1)) == []

    assert [job.pk for job in Job.objects.all()] == [new.pk, going_on.pk]
    assert set(JobItem.objects.values_list("job", flat=True)) == {new.pk, going_on.pk}

    quota.expire()
    assert run_cron("prune-journal").outcome == "succeeded"
    assert Reservation.objects.filter(ledger=NOON.date()).count() == 0
    assert [run_cron("prune-journal").outcome for _ in range(2)] == ["idle", "idle"]
    assert balance(sandbox)[1] == 0


@pytest.mark.slow
def test_the_items_of_an_ended_job_are_deleted_before_its_figures(
    api: APIClient, admin_client: Client, settings, sandbox: Sandbox, set_clock: SetClock
) -> None:
    settings.JOB_ITEMS_KEEP_DAYS = 2
    wanted = {"isbns": [*known_isbns(2), *unknown_isbns(1), "x"]}
    ended, going_on = (
        create_job(consumer=Consumer.objects.get(slug="reader"), kind=Job.Kind.BATCH_DIRECT, wanted=wanted)
        for _ in range(2)
    )
    run_job()
    path = f"/api/jobs/{ended.pk}"
    before = api.get(path).json()
    assert before["items_deleted_at"] is None
    set_clock(NOON + timedelta(days=2))
    run_cron("prune-journal")
    assert JobItem.objects.filter(job=ended).count() == 4
    set_clock(NOON + timedelta(days=3))
    run_cron("prune-journal")
    assert set(JobItem.objects.values_list("job", flat=True)) == {going_on.pk}

    after = api.get(path).json()
    assert after["items_deleted_at"].startswith("2026-05-08T12:00")
    assert after["failures"] == before["failures"] | {"first": []}
    for kept in ("result", "progress", "api_calls", "state"):
        assert after[kept] == before[kept]
    assert problem(api.get(f"{path}/items"), 410)["code"] == "items_deleted"
    assert problem(api.post(f"{path}/retry"), 410)["code"] == "items_deleted"
    shown = admin_client.get(reverse("admin:enrichment_job_change", args=[ended.pk])).text
    assert "The ISBNs were deleted on 2026-05-08." in shown
    assert "2 ISBNs" in shown
    assert "The ISBNs were deleted" in admin_client.get(reverse("admin:enrichment_job_items", args=[ended.pk])).text
    assert api.get(f"/api/jobs/{going_on.pk}/items").status_code == 200
    assert run_cron("prune-journal").outcome == "idle"


def test_the_authors_of_an_ended_job_are_deleted_and_their_figures_stay(
    api: APIClient, settings, set_clock: SetClock
) -> None:
    settings.JOB_ITEMS_KEEP_DAYS = 2
    reader = Consumer.objects.get(slug="reader")
    job = create_job(consumer=reader, kind=Job.Kind.AUTHORS, wanted={"authors": ["Andy Weir", "Jane Austen"]})
    figures = {"found": 15, "new": 1, "changed": 2, "unchanged": 3, "already_fresh": 4, "failed": 5}
    JobAuthor.objects.filter(position=1).update(state="failed", reason="ISBNdb failed.", **figures)
    cancel_job(job.pk)
    path = f"/api/jobs/{job.pk}"
    before = api.get(path).json()
    assert before["figures"]["found"] == 15
    set_clock(NOON + timedelta(days=3))
    assert prune_items(before=NOON.date()) == 0, "it ended on that day"
    assert prune_items(before=(NOON + timedelta(days=1)).date()) == 1
    assert not JobAuthor.objects.exists()
    after = api.get(path).json()
    assert after["figures"] == before["figures"]
    assert after["failures"] == before["failures"] | {"first": []}
    assert problem(api.get(f"{path}/authors"), 410)["code"] == "items_deleted"
