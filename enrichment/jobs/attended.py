"""Jobs of authors that a command in a terminal works on, in its own process and without a worker."""

import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog
from django.db import connection, transaction
from django.db.models import Q

from enrichment.exceptions import ENDINGS, AnotherRunner, IsbndbError
from enrichment.jobs.claims import ClaimLost, claim_if, held, kept, pause, refuse_second, renew
from enrichment.jobs.ending import end, stop_as_requested
from enrichment.jobs.engine import Turn
from enrichment.jobs.kinds.authors import MAX_FAILURES_IN_A_ROW, AuthorsRun
from enrichment.jobs.processes import has_ended
from enrichment.jobs.registry import handler_of
from enrichment.jobs.workers import DATABASE, PERMANENT
from enrichment.models import Job, JobAuthor
from enrichment.selectors.jobs import check_items
from enrichment.services.stop_reasons import public_message, stop_reason
from quota.database import QuotaNow
from quota.exceptions import QuotaError, QuotaRefused, ReservationClosed
from quota.selectors.status import get_status
from quota.spending import in_background

PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds between tries while the database or the quota is out of reach."""

MAX_SLEEP_SECONDS = 600.0
"""After this time the job asks for quota again, which costs nothing: a person may have raised it."""

_RENEW_SECONDS = 60.0
_MIDNIGHT_SECONDS = 5.0


class Listener(Protocol):
    """Reports the progress to people or programs."""

    def author(self, author: JobAuthor, detail: str) -> None:
        """An author is over. `detail`: the sentence of a failure."""

    def page(self) -> None:
        """An answer is recorded."""

    def waiting(self, reason: str, message: str, until: datetime | None) -> None:
        """It waits for quota until then, or for a reserved call to come free."""

    def trying_again(self, message: str, seconds: float) -> None:
        """The database or the quota was out of reach."""


@dataclass(frozen=True)
class Ended:
    """Why a run has ended, as a word and a sentence. Both are empty when everything it was to do is done."""

    reason: str = ""
    message: str = ""


def claim_for_command(job_id: uuid.UUID, *, max_pages: int | None = None) -> Job:
    """Takes a job of authors for this process. What has failed becomes pending.

    It takes a job that no process runs, in any state, and one whose process on this machine has ended or whose lease is
    over. `max_pages`: changes the maximum for each author; those cut by a smaller one become pending. A job that has
    ended and has nothing left to do comes back as it is, and is not claimed.

    Raises AnotherRunner, ItemsDeleted, and AlreadyBegun when a later job of the same list has not ended.
    """
    with transaction.atomic(durable=True):
        job = Job.objects.select_for_update(no_key=True, of=("self",)).select_related("consumer").get(pk=job_id)
        over = Job.objects.filter(pk=job_id, lease_until__lte=QuotaNow()).exists()
        if job.state == Job.State.RUNNING and not (over or has_ended(job)):
            raise AnotherRunner(job)
        check_items(job)
        if max_pages is not None:
            job.wanted["max_pages"] = max_pages
        if job.ended_at is not None and not handler_of(job).is_left():
            return job
        handler_of(job).reset_failed()
        refuse_second(job)
        job.save(update_fields=["wanted", "done"])
        fields = {"attended": True, "ended_at": None, "result": None, "stop_requested": "", "failures": 0}
        claimed = claim_if(Q(pk=job_id), **fields)
    if claimed is None:
        raise AssertionError("unreachable: the row is locked")
    return claimed


class AttendedRun:
    """A run of this process over the pending authors of a job it has claimed. A signal handler can end it with `stop`.

    `limit`: the maximum number of authors to begin. `wait`: waits for more quota when it is used up.
    """

    def __init__(self, job: Job, *, listener: Listener, limit: int | None = None, wait: bool = False) -> None:
        self.job = job
        self.listener = listener
        self.limit = limit
        self.wait = wait
        self.stopping = False
        self._tries = 0  # since the last answer
        self._waiting_for: datetime | None = None
        self._run: AuthorsRun | None = None

    def stop(self) -> None:
        """Ends the run when what is under way has come in."""
        self.stopping = True

    def run(self) -> Ended:
        """Works until everything is done or something stops it. The job is then ended or paused."""
        with in_background(), kept(self.job), structlog.contextvars.bound_contextvars(job=str(self.job.pk)):
            try:
                while (ended := self._turn()) is None:
                    self.job.refresh_from_db()
            except ClaimLost:
                return Ended("lost", "Another process has taken over the job.")
            except BaseException as error:
                self._pause(Ended("interrupted", "Interrupted." if isinstance(error, KeyboardInterrupt) else "Failed."))
                raise
            return ended

    def _turn(self) -> Ended | None:
        """Works until something happens; None: go on. Raises ClaimLost."""
        if self.stopping:  # during a pause
            return self._stopped()
        run = self._run = AuthorsRun(self.job, limit=self.limit)
        turn = Turn(self.job, run, goes_on=lambda: not self.stopping, after_answer=self._after_answer)
        try:
            done = turn.work()
        except (*ENDINGS, *DATABASE) as error:
            if isinstance(error, DATABASE):
                connection.close()
            return self._after(error)
        finally:
            self._report()
        if not done:
            return self._stopped()
        if self.job.authors.filter(state=JobAuthor.State.PENDING).exists():
            return self._pause(Ended("", "--limit"), reason="limit")
        end(self.job, state=Job.State.SUCCEEDED)
        return Ended()

    def _after_answer(self) -> None:
        self._tries, self._waiting_for = 0, None
        self.listener.page()
        self._report()

    def _report(self) -> None:
        """Tells the listener which authors are over since the last time."""
        if self._run is None:
            return
        over, self._run.over = self._run.over, []
        for author, detail in over:
            if self.limit is not None:
                self.limit -= 1
            self.listener.author(author, detail)

    def _stopped(self) -> Ended | None:
        if self.stopping:
            return self._pause(Ended("interrupted", "Interrupted."))
        return Ended(self.job.state, self.job.error) if stop_as_requested(self.job) else None

    def _after(self, error: Exception) -> Ended | None:
        """What a failure means for the run: an end, or None after a pause."""
        reason, message = stop_reason(error), public_message(error)
        if isinstance(error, ReservationClosed) or reason == "midnight":  # always waited for: it is seconds away
            self._sleep(_MIDNIGHT_SECONDS)
        elif isinstance(error, QuotaRefused):
            if not self.wait or error.retry_at is None:
                return self._pause(Ended(reason, message))
            if error.retry_at != self._waiting_for:
                self._waiting_for = error.retry_at
                self.listener.waiting(reason, message, error.retry_at)
            self._sleep(min((error.retry_at - get_status().now).total_seconds() + 1, MAX_SLEEP_SECONDS))
        elif self._run is not None and error is self._run.failure:
            sentence = f"{MAX_FAILURES_IN_A_ROW} authors failed in a row. The last failure: {message}"
            return self._pause(Ended("too_many_failures", sentence))
        elif isinstance(error, (*PERMANENT, IsbndbError)):
            return self._pause(Ended(reason, message))
        elif self._tries == len(PAUSES):
            return self._pause(Ended(reason, f"{message} Gave up after {self._tries + 1} tries."))
        else:
            seconds = PAUSES[self._tries]
            self._tries += 1
            self.listener.trying_again(message, seconds)
            self._sleep(seconds)
        return None

    def _sleep(self, seconds: float) -> None:
        """Sleeps, keeps the claim, and ends at once when `stop` is called. Raises ClaimLost."""
        until = time.monotonic() + seconds
        renew_at = time.monotonic() + _RENEW_SECONDS
        connection.close()
        while not self.stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            if time.monotonic() > renew_at:
                renew_at += _RENEW_SECONDS
                with suppress(*DATABASE):
                    if renew(self.job):
                        return

    def _pause(self, ended: Ended, *, reason: str = "") -> Ended:
        """Gives up the claim. If the database does not answer, the lease or the end of this process does that."""
        with suppress(*DATABASE, QuotaError, ClaimLost), held(self.job):
            pause(self.job, reason=reason or ended.reason, error=ended.message)
        return ended
