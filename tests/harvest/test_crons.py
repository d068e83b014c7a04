"""Running a cron: when it is skipped, stopped, idle or failed, and what is recorded."""

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection

from alexandria.common import heartbeats
from alexandria.development.sandbox.server import Sandbox
from enrichment.exceptions import IsbndbError
from enrichment.services.enrich import add_answer, enrich_isbns
from harvest import runs
from harvest.crons import batches, housekeeping
from harvest.crons.registry import CRONS, get_cron
from harvest.crons.run_context import MAX_FAILURES_IN_A_ROW, RunContext
from harvest.exceptions import CronUnknown, FailedTooOften
from harvest.models import CronState, HarvestRun
from harvest.runs import run_cron
from quota.exceptions import ConsumerUnknown, ReservationClosed
from quota.models import Call, Consumer, DailyLedger, Switches
from quota.prices import RequestKind
from quota.selectors.status import calls_spent, get_status
from quota.services import reservations as quota
from quota.spending import spending
from tests.fixtures import NOON, SetClock, balance, dispatched, known_isbns

pytestmark = pytest.mark.usefixtures("defaults", "one_at_a_time", "sandbox")


def recorded(run: HarvestRun | None) -> tuple[str, str, int, int]:
    assert run is not None
    row = HarvestRun.objects.get(pk=run.pk)
    assert row.ended_at is not None
    return row.outcome, row.reason, row.calls, row.repeats


def replace_run(monkeypatch: pytest.MonkeyPatch, name: str, run: Any) -> None:
    """Lets the cron do `run` instead of its own work."""
    monkeypatch.setitem(CRONS, name, replace(get_cron(name), run=run))


def test_a_run_records_its_calls_under_its_own_source(sandbox: Sandbox) -> None:
    run = run_cron("reconciliation")
    assert recorded(run) == ("succeeded", "", 1, 0)
    assert Call.objects.get().reservation.source == f"run:{run.pk}"
    assert calls_spent(source=f"run:{run.pk}") == 1
    assert calls_spent(source="run:0") == 0
    assert run.started_at - NOON < timedelta(minutes=1)
    assert balance(sandbox) == (1, 1)
    state = CronState.objects.get(name="reconciliation")
    assert (state.run, state.lease_until, state.last_tick_at) == (None, None, None)


@pytest.mark.slow
def test_a_run_is_skipped_at_every_limit_that_leaves_no_call(settings, sandbox: Sandbox, set_clock: SetClock) -> None:
    payer = Consumer.objects.get(slug="cron-reconciliation")

    def skipped() -> str:
        run = run_cron("reconciliation")
        outcome, reason, calls, _ = recorded(run)
        assert (outcome, calls) == ("skipped", 0)
        return reason

    quota.increment(get_status().safety_limit - payer.floor)
    assert skipped() == "The consumer cron-reconciliation must leave calls free for others. Its floor is 1,000."
    Consumer.objects.filter(pk=payer.pk).update(floor=0, daily_budget=0)
    assert skipped() == "The consumer cron-reconciliation's daily budget is used or reserved. Its daily budget is 0."
    Consumer.objects.filter(pk=payer.pk).update(daily_budget=None, cap_per_operation=0)
    too_many = "One operation of the consumer cron-reconciliation may not take so many calls."
    assert skipped() == f"{too_many} Its cap per operation is 0."
    Consumer.objects.filter(pk=payer.pk).update(cap_per_operation=None, active=False)
    assert skipped() == "The consumer cron-reconciliation is switched off."
    Consumer.objects.filter(pk=payer.pk).update(active=True)
    Switches.objects.create(harvest_enabled=False)
    assert skipped() == "Harvesting is switched off: crons and bulk work get no calls."
    Switches.objects.update(harvest_enabled=True)
    DailyLedger.objects.update(closed_at=NOON, closed_reason="Daily quota exceeded")
    closed = run_cron("stale-refresh")  # the reconciliation goes on
    assert closed is not None
    assert (closed.outcome, closed.reason) == ("skipped", "ISBNdb has reported that its quota of the day is used up.")
    assert sandbox.spent == 0

    settings.QUOTA_ENFORCEMENT = "observe"
    assert recorded(run_cron("reconciliation"))[:1] == ("succeeded",)
    settings.QUOTA_ENFORCEMENT = "enforce"
    Consumer.objects.filter(pk=payer.pk).update(floor=1000)
    set_clock(NOON + timedelta(days=1))
    sandbox.set_clock(offset_seconds=sandbox.meter.offset_seconds + 86_400)
    assert recorded(run_cron("reconciliation"))[:1] == ("succeeded",), "the next day has a new ledger"


@pytest.mark.slow
def test_a_cron_spends_the_one_call_above_its_floor_and_never_the_floor(sandbox: Sandbox) -> None:
    quota.increment(get_status().safety_limit - 1001)
    sandbox.set_limits(spent=get_status().used)
    assert [recorded(run_cron("reconciliation"))[0] for _ in range(2)] == ["succeeded", "skipped"]
    assert get_status().remaining == 1000
    assert recorded(run_cron("reconciliation", force=True)) == (
        "skipped",
        "floor: This consumer must leave calls free for others.",
        0,
        0,
    ), "the quota still refuses"


def test_a_cron_gives_way_at_the_pace_to_who_waits_for_an_answer() -> None:
    run_cron("reconciliation")
    assert DailyLedger.objects.get().background_slot_at == Call.objects.get().send_at


def test_a_run_for_which_a_busy_fleet_has_no_send_time_has_not_failed(monkeypatch) -> None:
    monkeypatch.setattr("enrichment.gateway.asking.MAX_PACE_WAIT", timedelta())
    quota.open_ledger()
    DailyLedger.objects.update(next_dispatch_at=NOON + timedelta(minutes=15))
    outcome, reason, calls, _ = recorded(run_cron("reconciliation"))
    assert (outcome, calls) == ("skipped", 0)
    assert reason.startswith("The fleet is busy")


def test_crons_that_spend_no_calls_run_when_harvesting_is_off_or_no_call_is_left() -> None:
    Switches.objects.create(harvest_enabled=False)
    assert recorded(run_cron("open-ledger"))[0] == "succeeded"
    quota.increment(get_status().remaining)
    assert recorded(run_cron("open-ledger"))[0] == "idle"
    Consumer.objects.create(slug="reader")
    DailyLedger.objects.update(used=0)
    quota.reserve(consumer="reader", operation="test", calls=5, lease=timedelta())
    assert recorded(run_cron("expire-leases"))[0] == "succeeded"
    assert get_status().reserved == 0


def test_consecutive_runs_that_do_nothing_for_the_same_reason_share_a_row() -> None:
    def rows() -> list[tuple[str, int]]:
        return list(HarvestRun.objects.order_by("pk").values_list("outcome", "repeats"))

    run_cron("open-ledger")
    first = run_cron("open-ledger")
    assert {run_cron("open-ledger").pk for _ in range(3)} == {first.pk}
    assert rows() == [("succeeded", 0), ("idle", 3)]
    assert HarvestRun.objects.filter(pk=first.pk, ended_at__gt=first.ended_at).exists()

    run_cron("expire-leases")
    run_cron("open-ledger")
    assert rows() == [("succeeded", 0), ("idle", 4), ("idle", 0)], "runs of another cron do not end the row"
    DailyLedger.objects.all().delete()
    run_cron("open-ledger")
    run_cron("open-ledger")
    assert rows()[3:] == [("succeeded", 0), ("idle", 0)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("switch", "reason"),
    [
        (lambda: Switches.objects.create(harvest_enabled=False), "Harvesting is switched off: crons and bulk work"),
        (lambda: Consumer.objects.update(active=False), "This consumer is switched off."),
        (lambda: DailyLedger.objects.update(closed_at=NOON), "day_closed: "),
    ],
)
def test_a_switch_stops_a_run_at_its_next_call(
    switch: Any, reason: str, settings, sandbox: Sandbox, monkeypatch
) -> None:
    settings.ISBNDB_BATCH_SIZE = 5
    settings.EDITION_FRESH_DAYS = 0
    Consumer.objects.create(slug="reader")
    enrich_isbns(known_isbns(10), consumer="reader")

    def switched_after_the_first(*args: Any) -> Any:
        switch()
        return add_answer(*args)

    monkeypatch.setattr(batches, "add_answer", switched_after_the_first)
    run = run_cron("stale-refresh")
    assert (run.outcome, run.calls, run.books) == ("stopped", 1, 5)
    assert run.reason.startswith(reason)
    assert balance(sandbox) == (3, 3)


def test_a_failure_of_isbndb_is_a_failed_run_and_an_unexpected_error_is_raised_too(
    sandbox: Sandbox, monkeypatch
) -> None:
    sandbox.add_fault("status", status=503)
    run = run_cron("reconciliation")
    assert recorded(run)[0] == "failed"
    assert "IsbndbUnavailable" in run.reason
    assert run.calls == sandbox.spent > 1, "the run counts its retries"

    replace_run(monkeypatch, "open-ledger", lambda context: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_cron("open-ledger")
    assert recorded(HarvestRun.objects.first()) == ("failed", "ZeroDivisionError: division by zero", 0, 0)
    assert not CronState.objects.exclude(run=None).exists()

    Consumer.objects.filter(slug="cron-new-releases").delete()
    assert ConsumerUnknown.__name__ in run_cron("new-releases").reason
    with pytest.raises(CronUnknown, match="ledger-check"):
        run_cron("tea")


def test_two_runs_of_one_cron_never_overlap(monkeypatch) -> None:
    started, may_end = threading.Event(), threading.Event()

    def wait(context: RunContext) -> None:
        started.set()
        assert may_end.wait(60)
        context.cursor = {"at": 7}

    def in_another_thread() -> None:
        try:
            run_cron("open-ledger")
        finally:
            connection.close()

    replace_run(monkeypatch, "open-ledger", wait)
    thread = threading.Thread(target=in_another_thread)
    thread.start()
    try:
        assert started.wait(60)
        assert recorded(run_cron("open-ledger")) == ("skipped", "The previous run is still in progress.", 0, 0)
        assert recorded(run_cron("expire-leases"))[0] == "idle", "other crons are not affected"
    finally:
        may_end.set()
        thread.join()
    assert [run.outcome for run in HarvestRun.objects.filter(cron="open-ledger")] == ["skipped", "succeeded"]
    assert CronState.objects.get(name="open-ledger").cursor == {"at": 7}


@pytest.mark.slow
def test_a_run_counts_as_dead_when_its_lease_is_over_and_its_calls_are_recorded(
    sandbox: Sandbox, set_clock: SetClock, monkeypatch
) -> None:
    def die(context: RunContext) -> None:
        housekeeping.reconcile(context)
        set_clock(NOON + heartbeats.LEASE + timedelta(minutes=1))
        assert runs.end_dead_runs() == 1, "as the next tick of any cron does"

    replace_run(monkeypatch, "reconciliation", die)
    run = run_cron("reconciliation")
    assert recorded(run) == ("failed", "Its worker died.", 1, 0), "its late result changes nothing"
    assert CronState.objects.get(name="reconciliation").run is None
    assert balance(sandbox) == (1, 1)


def test_a_worker_that_counts_as_dead_spends_no_more_and_its_totals_are_recorded(sandbox: Sandbox, monkeypatch) -> None:
    monkeypatch.setattr(heartbeats, "HEARTBEAT", timedelta(milliseconds=10))
    states = CronState.objects.filter(name="reconciliation")

    def freeze(context: RunContext) -> None:
        housekeeping.reconcile(context)
        with spending(consumer=context.consumer, operation="test", calls=5, source=context.source) as spender:
            dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
            for _ in range(3000):  # the heartbeat renews the lease at the same time
                states.update(lease_until=NOON - timedelta(days=1))
                if runs.end_dead_runs():
                    break
            assert get_status().reserved == 0
            with pytest.raises(ReservationClosed):
                dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
        context.books = 7
        for _ in range(3000):
            if context.lost:
                break
            states.get()
        context.check_can_continue()
        raise AssertionError

    replace_run(monkeypatch, "reconciliation", freeze)
    run = run_cron("reconciliation")
    assert recorded(run) == ("failed", "Its worker died.", 2, 0)
    assert run.books == 7


def test_a_long_run_renews_its_lease_and_saves_its_cursor(set_clock: SetClock, monkeypatch) -> None:
    monkeypatch.setattr(heartbeats, "HEARTBEAT", timedelta(milliseconds=10))
    states = CronState.objects.filter(name="open-ledger")

    def take_long(context: RunContext) -> None:
        set_clock(NOON + timedelta(hours=1))
        context.cursor = {"page": 3}
        for _ in range(3000):
            if states.filter(lease_until__gt=NOON + timedelta(hours=1), cursor={"page": 3}).exists():
                break
        assert runs.end_dead_runs() == 0

    replace_run(monkeypatch, "open-ledger", take_long)
    assert recorded(run_cron("open-ledger"))[0] == "succeeded"


def test_the_heartbeat_may_fail_once_before_the_lease_is_over() -> None:
    assert 2 * heartbeats.HEARTBEAT < heartbeats.LEASE


def test_a_run_that_has_lost_its_lease_leaves_the_next_run_alone(monkeypatch) -> None:
    states = CronState.objects.filter(name="open-ledger")

    def lose(context: RunContext) -> None:
        context.cursor = {"page": 3}
        states.update(run=HarvestRun.objects.create(cron="open-ledger", started_at=NOON), cursor={"page": 9})

    replace_run(monkeypatch, "open-ledger", lose)
    lost = run_cron("open-ledger")
    state = states.get()
    assert (state.cursor, state.lease_until is None) == ({"page": 9}, False)
    assert state.run not in {None, lost}


def test_an_answer_ends_a_row_of_failures() -> None:
    context = RunContext(consumer="", source="", today=NOON.date())
    for failures in (MAX_FAILURES_IN_A_ROW - 1, MAX_FAILURES_IN_A_ROW - 1):
        for _ in range(failures):
            context.record_failure(IsbndbError("a test"))
        context.check_can_continue()
        context.record_answer()
    for _ in range(MAX_FAILURES_IN_A_ROW):
        assert context.can_continue
        context.record_failure(IsbndbError("a test"))
    with pytest.raises(FailedTooOften):
        context.check_can_continue()


def test_the_scheduled_reconciliation_finds_drift(sandbox: Sandbox, settings, caplog) -> None:
    settings.QUOTA_DRIFT_ALERT = 10
    sandbox.set_limits(spent=40)
    run_cron("reconciliation")
    assert balance(sandbox) == (41, 41)
    assert [record.levelname for record in caplog.records if "quota.drift" in record.getMessage()] == ["ERROR"]


@pytest.mark.slow
def test_a_wrong_ledger_fails_the_nightly_check_until_it_is_right(set_clock: SetClock, caplog) -> None:
    Consumer.objects.create(slug="reader")
    assert recorded(run_cron("ledger-check"))[0] == "idle", "yesterday has no ledger"
    with spending(consumer="reader", operation="test", calls=1) as spender:
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
    set_clock(NOON + timedelta(days=1))
    assert recorded(run_cron("ledger-check"))[0] == "succeeded"

    quota.increment(3)
    DailyLedger.objects.filter(day=NOON.date() + timedelta(days=1)).update(used=5)
    for days in (2, 4):
        set_clock(NOON + timedelta(days=days))
        run = run_cron("ledger-check")
        assert run.outcome == "failed"
        assert "2026-05-06: used is 5, its rows sum up to 3" in run.reason
    assert "harvest.run_failed" in caplog.text
    DailyLedger.objects.update(used=3)
    assert run_cron("ledger-check").outcome == "succeeded", "days with right ledgers are not checked again"

    for days in range(5, 25):
        set_clock(NOON + timedelta(days=days))
        quota.increment(3)
    DailyLedger.objects.update(used=5)
    set_clock(NOON + timedelta(days=25))
    reason = run_cron("ledger-check").reason
    assert len(reason) == 1000
    assert all(str(NOON.date() + timedelta(days=days)) in reason for days in range(5, 25))
    runs.forget_cursor("ledger-check")
    assert run_cron("ledger-check").outcome == "failed", "yesterday is still wrong"
    set_clock(NOON + timedelta(days=26))
    assert run_cron("ledger-check").outcome == "idle", "deleting the cursor has acknowledged the wrong days"


def test_an_ended_run_must_have_an_end_time() -> None:
    with pytest.raises(IntegrityError, match="harvest_harvestrun_ended_has_time"):
        HarvestRun.objects.create(cron="open-ledger", started_at=NOON, outcome="failed")
