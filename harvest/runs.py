"""Runs crons: claims the tick, asks the quota, does the work and records the result."""

from datetime import datetime, timedelta
from functools import partial

import structlog
from django.db import transaction
from django.db.models import F, Q

from alexandria.common.database import OUT_OF_REACH, patiently
from alexandria.common.heartbeats import LEASE, heartbeats
from enrichment.exceptions import EnrichmentStopped, IsbndbError
from enrichment.services.stop_reasons import STOPS
from harvest.crons.registry import Cron, get_cron
from harvest.crons.run_context import RunContext
from harvest.exceptions import FailedTooOften, LedgerWrong, RunLost, RunStopped, RunUnderWay
from harvest.models import CronState, HarvestRun
from harvest.schedules import claim_run_by_hand, claim_tick, schedules_by_cron
from quota.database import QuotaNow, reachable
from quota.exceptions import PaceTimeout, QuotaError, QuotaRefused
from quota.models import Reservation
from quota.selectors.allowances import why_no_call
from quota.selectors.status import QuotaStatus, calls_spent, get_status
from quota.services import reservations as quota
from quota.spending import in_background

log = structlog.get_logger(__name__)

MAX_OUTAGE = timedelta(minutes=30)
"""So long a run that ends waits for the database. After that, the end of its lease ends it."""

Outcome = HarvestRun.Outcome


def run_cron(name: str, *, scheduled: bool = False, by_hand: bool = False, force: bool = False) -> HarvestRun | None:
    """Runs the cron now and returns its run, which has ended.

    `scheduled`: run it for a tick of its schedule, and return None when that tick has already run, or when the last one
    is not long enough ago. `by_hand`: return None when it last ran by hand less than a minute ago. `force`: run it even
    where it would be skipped because of the quota; the quota itself still refuses calls. Two runs of one cron never
    overlap: while one is in progress, the other is skipped.

    Raises CronUnknown and QuotaUnavailable. Any unexpected error is raised too, after the run is recorded as failed.
    """
    cron = get_cron(name)
    end_dead_runs()
    status = get_status()
    run = _begin(cron, now=status.now, scheduled=scheduled, by_hand=by_hand)
    if run is None:
        return None
    context = RunContext(
        cron.consumer, f"run:{run.pk}", today=status.day, cursor=run.cursor, renew=partial(_renew, run)
    )
    with structlog.contextvars.bound_contextvars(cron=name, run=run.pk):
        if not CronState.objects.filter(run=run).exists():
            return _end(run, context, Outcome.SKIPPED, "The previous run is still in progress.")
        try:
            with heartbeats(partial(_renew, run, context)):
                outcome, reason = _carry_out(cron, context, status, force=force)
        except BaseException as error:
            _end(run, context, Outcome.FAILED, f"{type(error).__name__}: {error}")
            raise
        return _end(run, context, outcome, reason)


def forget_cursor(name: str) -> None:
    """Deletes the cursor: the next run starts from the beginning. Raises CronUnknown and RunUnderWay."""
    get_cron(name)
    end_dead_runs()
    with reachable():
        CronState.objects.get_or_create(name=name)
        if CronState.objects.filter(pk=name, run=None).update(cursor={}) == 0:
            raise RunUnderWay(f"A run of {name} is in progress. Try again when it has ended.")
    log.info("harvest.cursor_forgotten", cron=name)


def pause_cron(name: str) -> int:
    """Switches the schedules of the cron off; returns how many were on. Does not end a run. Raises CronUnknown."""
    return _switch(name, enabled=False)


def resume_cron(name: str) -> int:
    """Switches the schedules of the cron on; returns how many were off. Raises CronUnknown."""
    return _switch(name, enabled=True)


def end_dead_runs() -> int:
    """Ends the runs whose lease is over, because their worker died, as failed. Returns how many.

    Releases the calls that they reserved. So a worker that was only slow spends no more: its run ends at the next call.
    """
    ended = 0
    with reachable():
        over = list(HarvestRun.objects.filter(state__lease_until__lt=QuotaNow()).select_related("state"))
    for run in over:
        calls = calls_spent(source=f"run:{run.pk}")
        with transaction.atomic(durable=True):
            lease = CronState.objects.filter(run=run, lease_until=run.state.lease_until)
            if lease.update(run=None, lease_until=None) == 1:
                HarvestRun.objects.filter(pk=run.pk, outcome=Outcome.RUNNING).update(
                    outcome=Outcome.FAILED, reason="Its worker died.", ended_at=QuotaNow(), calls=calls
                )
                ended += 1
                log.error("harvest.worker_died", cron=run.cron, run=run.pk, calls=calls)
        with reachable():
            held = list(Reservation.objects.filter(source=f"run:{run.pk}", state="open").values_list("pk", flat=True))
        for reservation in held:
            quota.settle(reservation)
    return ended


def _switch(name: str, *, enabled: bool) -> int:
    get_cron(name)
    changed = [task for task in schedules_by_cron().get(name, []) if task.enabled != enabled]
    for task in changed:
        task.enabled = enabled
        task.save()  # each row as a whole: the signal of save() tells beat, which restarts the schedule
    return len(changed)


def _begin(cron: Cron, *, now: datetime, scheduled: bool, by_hand: bool) -> HarvestRun | None:
    """Claims the tick and makes the run, which takes the cron's lease unless another run holds it."""
    with reachable():
        CronState.objects.get_or_create(name=cron.name)
    with reachable(), transaction.atomic(durable=True):
        if scheduled and not claim_tick(cron.name, now=now, at_least=timedelta(seconds=cron.min_seconds)):
            return None
        if by_hand and not claim_run_by_hand(cron.name):
            return None
        state = CronState.objects.select_for_update(no_key=True).get(pk=cron.name)
        run = HarvestRun.objects.create(cron=cron.name, started_at=now, cursor=state.cursor)
        CronState.objects.filter(pk=cron.name, run=None).update(run=run, lease_until=QuotaNow() + LEASE)
    return run


def _renew(run: HarvestRun, context: RunContext) -> bool:
    """Renews the lease and saves the cursor of the run. When the run has lost its lease, it sets `context.lost`.

    Returns whether the run has its lease.
    """
    lease = CronState.objects.filter(run=run)
    context.lost = lease.update(lease_until=QuotaNow() + LEASE, cursor=context.cursor) == 0
    return not context.lost


def _carry_out(cron: Cron, context: RunContext, status: QuotaStatus, *, force: bool) -> tuple[Outcome, str]:
    """Does the work; returns the outcome, and the reason when not everything was done."""
    outcome, reason = _try(cron, context, status, force=force)
    if not context.failures:
        return outcome, reason
    failures = [f"{failure} ({count} times)" if count > 1 else failure for failure, count in context.failures.items()]
    log.error("harvest.run_failed", failures=failures)
    ended_early = outcome in (Outcome.STOPPED, Outcome.FAILED)
    return (outcome if ended_early else Outcome.FAILED), "; ".join(filter(None, [reason, *failures]))


def _try(cron: Cron, context: RunContext, status: QuotaStatus, *, force: bool) -> tuple[Outcome, str]:
    try:
        if not (force or cron.is_due()):
            return Outcome.IDLE, ""
        may_begin = cron.begins_free or (cron.on_closed_days and status.closed_reason is not None)
        needs_call = cron.consumer and not may_begin
        reason = why_no_call(cron.consumer, status) if needs_call and not force else ""
        log.info(
            "harvest.run_skipped" if reason else "harvest.run_started",
            reason=reason,
            used=status.used,
            reserved=status.reserved,
            remaining=status.remaining,
        )
        if reason:
            return Outcome.SKIPPED, reason
        with in_background():
            cron.run(context)
    except RunStopped as stopped:
        return Outcome.STOPPED, str(stopped)
    except EnrichmentStopped as stopped:
        return _judge(stopped.reason, context)
    except (QuotaError, IsbndbError, *OUT_OF_REACH, LedgerWrong, RunLost, FailedTooOften) as error:
        return _judge(error, context)
    return (Outcome.IDLE if context.idle else Outcome.SUCCEEDED), ""


def _judge(error: Exception, context: RunContext) -> tuple[Outcome, str]:
    if isinstance(error, (*STOPS, PaceTimeout)):  # a busy fleet is no fault: the next run can have its turn
        has_begun = context.has_answer or calls_spent(source=context.source) > 0
        reason = f"{error.limit}: {error.explanation}" if isinstance(error, QuotaRefused) else str(error)
        return (Outcome.STOPPED if has_begun else Outcome.SKIPPED), reason
    log.error("harvest.run_failed", error=str(error), kind=type(error).__name__)
    return Outcome.FAILED, f"{type(error).__name__}: {error}"


def _end(run: HarvestRun, context: RunContext, outcome: Outcome, reason: str) -> HarvestRun:
    """Records the outcome and lets the next run start; returns the row that records this run.

    When the database is out of reach, it waits: otherwise the next run would wait for the end of the lease.
    """
    return patiently(lambda: _record_end(run, context, outcome, reason), patience=MAX_OUTAGE)


def _record_end(run: HarvestRun, context: RunContext, outcome: Outcome, reason: str) -> HarvestRun:
    calls = calls_spent(source=context.source)
    with transaction.atomic(durable=True):
        CronState.objects.filter(run=run).update(run=None, lease_until=None, cursor=context.cursor)
        ended = HarvestRun.objects.filter(pk=run.pk, outcome=Outcome.RUNNING).update(
            outcome=outcome,
            reason=reason[:1000],
            ended_at=QuotaNow(),
            calls=calls,
            books=context.books,
            cursor=context.cursor,
        )
        run.refresh_from_db()
        kept = _fold(run) if ended else run
    if not ended:
        HarvestRun.objects.filter(pk=run.pk).update(calls=calls, books=context.books)
        run.refresh_from_db()
        log.error("harvest.taken_for_dead", outcome=outcome, calls=calls, books=context.books)
    say = log.debug if outcome == Outcome.IDLE else log.info
    say("harvest.run_ended", outcome=outcome, reason=reason, calls=calls, books=context.books)
    return kept


def _fold(run: HarvestRun) -> HarvestRun:
    """Adds a run that did nothing to the row of the previous run, if that did nothing for the same reason."""
    does_nothing = Q(outcome__in=[Outcome.IDLE, Outcome.SKIPPED], calls=0, books=0)
    before = HarvestRun.objects.filter(cron=run.cron, pk__lt=run.pk).first()
    alike = HarvestRun.objects.filter(does_nothing, outcome=run.outcome, reason=run.reason, cursor=run.cursor)
    if before is None or not alike.filter(pk=run.pk).exists():
        return run
    if alike.filter(pk=before.pk).update(repeats=F("repeats") + 1, ended_at=run.ended_at) == 0:
        return run
    run.delete()
    before.refresh_from_db()
    return before
