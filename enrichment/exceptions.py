"""Failures of ISBNdb and of jobs, one class for each. `alexandria/api/problems.py` maps them to HTTP."""

from typing import Any

from django.db import DatabaseError, OperationalError

from alexandria.common.database import OUT_OF_REACH, READ_ONLY, sqlstate
from alexandria.common.text import as_people_read
from quota.exceptions import QuotaError


class IsbndbError(Exception):
    """The parent of the errors of ISBNdb: it gave no usable answer. The journal has the calls spent."""


class IsbndbTimeout(IsbndbError):
    """No complete answer within ISBNDB_TIMEOUT_SECONDS. There is no retry, because ISBNdb may have counted the call."""


class IsbndbUnavailable(IsbndbError):
    """Every attempt ended without a connection or with a failure of ISBNdb.

    `retry_after`: the seconds that ISBNdb asked us to wait. `status`: the status of its answer, if there was one.
    `given_up`: there was no call left for a retry.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, status: int | None = None) -> None:
        self.retry_after = retry_after
        self.status = status
        self.given_up = False
        super().__init__(message)


class IsbndbRefused(IsbndbError):
    """ISBNdb rejects our key or our request, or redirects it. There is no retry: the answer would be the same.

    `status`: the status of its answer, if there was one.
    """

    def __init__(self, message: str = "", *, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class IsbndbInputRefused(IsbndbRefused):
    """ISBNdb rejects what somebody has asked it for: a parameter that was passed on."""


class IsbndbKeyRefused(IsbndbRefused):
    """ISBNdb rejects our key."""


class IsbndbUnclear(IsbndbError):
    """ISBNdb refused a request without saying why, and its own counter could not settle whether the day is over.

    There is no retry: if the day is over, each request gets nothing and still counts.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"ISBNdb refused the request and did not say why. Its daily limit may be reached. {why}")


class IsbndbNotFound(IsbndbRefused):
    """ISBNdb does not know the ISBN or the name."""


class IsbndbPageTooLarge(IsbndbError):
    """ISBNdb failed with status 500, as it does when an answer is over 6 MB. A smaller request can succeed."""


class IsbndbUndecodable(IsbndbError):
    """ISBNdb sent an answer that does not match its contract."""


ENDINGS = (QuotaError, IsbndbError, *OUT_OF_REACH)
"""What can stop an operation early: the quota, ISBNdb, or a database that does not answer."""


class EnrichmentStopped(Exception):
    """An operation stopped before its end.

    `reason`: the exception that stopped it, one of ENDINGS. `result`: what was stored until then, as an Enrichment,
    Bibliography, NewReleases, Flush, NotReconciled, or for ISBNdb's own interface Books or ListedPage.
    """

    def __init__(self, result: Any, reason: Exception) -> None:
        self.result = result
        self.reason = reason
        super().__init__("The operation stopped early.")


def cause_of(error: Exception) -> Exception:
    """What an answer tells the client of: the reason of an EnrichmentStopped, and one class for a lost database."""
    cause = error.reason if isinstance(error, EnrichmentStopped) else error
    if isinstance(cause, DatabaseError) and sqlstate(cause) == READ_ONLY:
        return OperationalError()  # Django raises another class for a read-only database
    return cause


class JustReconciled(Exception):
    """Somebody has asked ISBNdb's counter a moment ago. `retry_after`: seconds until it may be asked again."""

    def __init__(self, *, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(
            "ISBNdb's counter was asked less than ten seconds ago. GET /api/quota/status has what it said."
        )


class LimitReached(Exception):
    """A consumer would have more of something than a setting allows.

    `limit`: the name of the setting. `allowed`: its value. `used`: what the consumer has. `asked`: what it
    wants to add.
    """

    limit: str
    what: str
    remedy: str

    def __init__(self, *, allowed: int, used: int, asked: int) -> None:
        self.allowed = allowed
        self.used = used
        self.asked = asked
        super().__init__(
            f"{self.what}: {allowed:,} allowed, {used:,} used, {asked:,} more requested. {self.remedy} "
            f"The setting {self.limit} has this limit."
        )

    @property
    def can_come_free(self) -> bool:
        """Whether the same request can succeed later."""
        return self.asked <= self.allowed


class QueueFull(LimitReached):
    """The consumer would have too many ISBNs in the queue."""

    limit = "MAX_QUEUED_PER_CONSUMER"
    what = "ISBNs of one consumer in the queue"
    remedy = "Try again when the queue has sent some of them."


class JobError(Exception):
    """The parent of the errors of jobs."""


class JobEnded(JobError):
    """A job that has ended cannot be cancelled."""


class JobNotPaused(JobError):
    """Only a paused job can be resumed."""


class AlreadyBegun(JobError):
    """The consumer has a job for the same list that has not ended, or that has ended without doing everything.

    `job`: that job. It can be resumed or retried; to begin again, cancel it and ask for the list `again`.
    """

    def __init__(self, job: Any) -> None:
        self.job = job
        super().__init__(f"A job of the same list is {job.state}: {job.pk}. Resume or retry it, or start again.")


class AlreadyFinished(JobError):
    """The list is done. Asking `again` costs `calls_at_least` to `calls_at_most` calls. `job`: the job that did it."""

    def __init__(self, job: Any, *, calls_at_least: int, calls_at_most: int) -> None:
        self.job = job
        self.calls_at_least = calls_at_least
        self.calls_at_most = calls_at_most
        super().__init__(
            f"This list was finished on {as_people_read(job.ended_at)} by job {job.pk}. "
            f"To ask again costs {calls_at_least:,} to {calls_at_most:,} calls."
        )


class AnotherRunner(JobError):
    """Another process works on the job; the message says which. `job`: the job."""

    def __init__(self, job: Any) -> None:
        self.job = job
        super().__init__(
            f"Process {job.pid} on {job.host} works on job {job.pk}. "
            f"Its lease ends at {as_people_read(job.lease_until)} unless the process renews it."
        )


class NothingToRetry(JobError):
    """The job has not ended yet, or nothing in it has failed that can be retried."""


class ItemsDeleted(JobError):
    """The job has ended so long ago that its items are deleted. Its figures are kept."""


class TooManyJobs(LimitReached, JobError):
    """The consumer would have too many jobs that have not ended."""

    limit = "MAX_JOBS_PER_CONSUMER"
    what = "Jobs of one consumer that have not ended"
    remedy = "Wait until a job ends, or cancel one."


class TooManyItems(LimitReached, JobError):
    """The jobs of the consumer that have not ended would have too many items."""

    limit = "MAX_JOB_ITEMS_PER_CONSUMER"
    what = "Items of one consumer's jobs that have not ended"
    remedy = "Wait until a job ends, cancel one, or send fewer items."


class IdempotencyKeyReused(JobError):
    """The consumer has used this idempotency key for a different request."""


class IdempotencyKeyMalformed(JobError):
    """The idempotency key is not 1 to 128 printable ASCII characters."""
