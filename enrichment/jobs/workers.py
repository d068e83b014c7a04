"""What a worker does: it takes the next job in turn, works on it, and decides what a failure means for it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from datetime import datetime, timedelta
from random import uniform
from threading import Event, Thread

import structlog
from django.db import DatabaseError, connection
from django.db.models import Value
from django.db.models.expressions import Combinable

from alexandria.common.database import OUT_OF_REACH, READ_ONLY, can_pass, patiently, sqlstate
from alexandria.common.stopping import STOPPING
from enrichment.books.aside import store_aside
from enrichment.exceptions import ENDINGS, EnrichmentStopped, IsbndbRefused, IsbndbUnavailable
from enrichment.jobs.claims import ClaimLost, claim_newcomer, claim_next, kept, newcomer_waits
from enrichment.jobs.ending import end, put_back_or_stop
from enrichment.jobs.engine import Turn
from enrichment.jobs.registry import handler_of
from enrichment.models import Job
from enrichment.models.queue import MAX_ATTEMPTS
from enrichment.services.stop_reasons import MAX_PAUSE, pause_after, public_message, stop_reason
from quota.database import MidnightGuard, QuotaNow
from quota.exceptions import ConsumerInactive, ConsumerUnknown, PaceTimeout, QuotaError, QuotaRefused, ReservationClosed
from quota.selectors.allowances import may_come_free
from quota.selectors.forecast import forecast
from quota.spending import in_background

log = structlog.get_logger(__name__)

TURN = timedelta(minutes=1)
"""After this time the job goes to the end of the line, so that other jobs get a worker."""

MIN_TURN = timedelta(seconds=1)
"""So long a newcomer's job works before it gives way: each change of jobs waits for what is under way."""

LOOK_SECONDS = 0.5
"""So often a busy worker looks for a newcomer."""

MAX_DEATHS = 3
"""After so many runners have died without an answer in between, the job fails."""

SHORT_WAIT = timedelta(seconds=15)
"""How long a job waits for something that passes by itself, such as calls that others have reserved."""

MAX_OUTAGE = timedelta(minutes=30)
"""So long a worker waits for the database, to give back the job it has. After that, the end of the lease does it."""

MIDNIGHT_SPREAD = timedelta(seconds=2)
"""Jobs that wait for midnight start at random times within this span, not all at once."""

PERMANENT = (IsbndbRefused, ConsumerInactive, ConsumerUnknown)
DATABASE = (DatabaseError, *OUT_OF_REACH)


def run_job() -> None:
    """Runs the next job for a turn: one of the consumer whose last turn is the longest ago.

    A turn ends when the job ends or has to wait, and after TURN. Meanwhile the worker runs newcomers beside it: see
    `claim_newcomer`.

    A failure of the quota, ISBNdb or the database makes the job wait or fail. Any other exception is raised; the job is
    then resumed after its lease expires, until MAX_DEATHS runners have died.
    """
    if (job := claim_next()) is not None:
        with _newcomers_beside():
            _run_for_a_turn(job)


@contextmanager
def _newcomers_beside() -> Iterator[None]:
    """Runs the jobs of newcomers, one after another, in a thread beside the block. Their turn ends with the block.

    So a newcomer does not wait for what is under way for another job, nor that job for the newcomer's answer.
    """
    over = Event()
    thread = Thread(target=copy_context().run, args=(_run_newcomers, over), daemon=True, name="newcomers")
    thread.start()
    try:
        yield
    finally:
        over.set()
        try:
            thread.join()
        except BaseException:  # the process is told to end: what is under way is paid for, and has to be stored
            thread.join()
            raise


def _run_newcomers(over: Event) -> None:
    """Runs the jobs of newcomers until `over` is set, or one of them crashes. Each gives way to the next."""

    def goes_on(lasted: float) -> bool:
        return not (over.is_set() or (lasted > MIN_TURN.total_seconds() and newcomer_waits()))

    pause = LOOK_SECONDS
    try:
        while not (over.wait(pause) or STOPPING.is_set()):
            job = _newcomer()
            pause = LOOK_SECONDS if job is None else 0
            if job is not None and not _run_newcomer(job, goes_on):
                return
    finally:
        connection.close()


def _newcomer() -> Job | None:
    """`claim_newcomer`; None while the database does not answer. Until the next look, there is no idle connection."""
    try:
        job = claim_newcomer()
    except DATABASE:
        job = None
    if job is None:
        connection.close()
    return job


def _run_newcomer(job: Job, goes_on: Callable[[float], bool]) -> bool:
    """Runs the job for a turn. Returns False when it crashed: then it is resumed after its lease expires."""
    try:
        _run_for_a_turn(job, goes_on)
    except Exception:
        log.exception("job.crashed", job=str(job.pk))
        return False
    return True


def _run_for_a_turn(job: Job, goes_on: Callable[[float], bool] = lambda lasted: True) -> None:
    """`goes_on`: is told after how many seconds, before each question but the first."""
    with kept(job), in_background(), structlog.contextvars.bound_contextvars(job=str(job.pk)):
        _Worker(job, goes_on).run()


class _Worker:
    """A turn of a job. `goes_on`: see `_run_for_a_turn`."""

    def __init__(self, job: Job, goes_on: Callable[[float], bool]) -> None:
        self.job = job
        self._may_go_on = goes_on
        self._began: float | None = None

    def run(self) -> None:
        job = self.job
        try:
            if job.attempts > MAX_DEATHS:
                end(job, state=Job.State.FAILED, reason="crashed", error="Every worker that tried this died.")
            elif Turn(job, handler_of(job).begin(), goes_on=self._goes_on).work():
                end(job, state=Job.State.SUCCEEDED)
            else:
                _put_back(job)
        except ClaimLost:
            log.warning("job.claim_lost")
        except EnrichmentStopped as stopped:
            _stop(job, stopped.reason)
        except ENDINGS as error:
            _stop(job, error)
        except DatabaseError as error:
            if sqlstate(error) != READ_ONLY:
                raise
            _stop(job, error)

    def _goes_on(self) -> bool:
        if self._began is None:  # each turn asks at least one question
            self._began = time.monotonic()
            return True
        lasted = time.monotonic() - self._began
        return lasted <= TURN.total_seconds() and self._may_go_on(lasted)


def _put_back(job: Job) -> None:
    put_back_or_stop(job, state=Job.State.QUEUED, resume_at=QuotaNow())


def _stop(job: Job, error: Exception) -> None:
    """Decides after a failure: the job waits, fails, or does what somebody has requested.

    When the database is out of reach, the worker waits for it. Otherwise the job would stand until its lease ends.
    """
    if isinstance(error, DATABASE):
        connection.close()  # a new connection can reach a database that works
    patiently(lambda: _decide(job, error), patience=MAX_OUTAGE)
    if isinstance(error, DATABASE):
        store_aside()  # what this job has bought is known before it goes on


def _decide(job: Job, error: Exception) -> None:
    failures = job.failures + (not isinstance(error, QuotaError))
    try:
        resume_at = _resume_at(job, error, failures)
        if resume_at is not None:
            if put_back_or_stop(
                job,
                state=Job.State.WAITING,
                resume_at=resume_at,
                failures=failures,
                stopped_reason=stop_reason(error),
                error=public_message(error),
            ):
                log.info("job.waits", reason=stop_reason(error))
            return
        end(job, state=Job.State.FAILED, reason=stop_reason(error), error=public_message(error))
    except ClaimLost:
        log.warning("job.claim_lost")


def _resume_at(job: Job, error: Exception, failures: int) -> datetime | Combinable | None:
    """When the job continues after the error, by the quota's clock; None when the job fails.

    `failures`: how often ISBNdb or the database has failed since the last answer.
    """
    if isinstance(error, QuotaRefused) and error.limit != "midnight":
        return _after_refusal(job, error)
    if isinstance(error, QuotaRefused | ReservationClosed):  # at midnight, the new quota is seconds away
        return QuotaNow() + MidnightGuard() + MidnightGuard()
    if isinstance(error, PERMANENT) or failures >= MAX_ATTEMPTS:
        return None
    if isinstance(error, QuotaError) and not can_pass(error):
        told = error.retry_after if isinstance(error, PaceTimeout) else None
        return _later(max(_a_short_wait(), timedelta(seconds=told or 0)))
    pause = pause_after(failures, error)
    if isinstance(error, IsbndbUnavailable) and error.retry_after is not None:
        pause = max(pause, min(timedelta(seconds=error.retry_after), MAX_PAUSE))
    return _later(pause)


def _after_refusal(job: Job, refusal: QuotaRefused) -> datetime | Combinable | None:
    consumer = job.consumer.slug
    if refusal.free or may_come_free(refusal, consumer=consumer):  # the next batch is cut to what is free by then
        return _later(_a_short_wait())
    never = forecast(1, consumer=consumer).finish_at is None
    if refusal.retry_at is None or never or job.on_exhausted == Job.OnExhausted.FAIL:
        return None
    return Value(refusal.retry_at + MIDNIGHT_SPREAD * uniform(0, 1)) + MidnightGuard()  # noqa: S311


def _a_short_wait() -> timedelta:
    """SHORT_WAIT or a little more, so that jobs do not all return at the same moment."""
    return SHORT_WAIT * uniform(1, 1.5)  # noqa: S311


def _later(pause: timedelta) -> Combinable:
    moment: Combinable = QuotaNow() + pause
    return moment
