"""What can go wrong with ISBNdb and with jobs, one class a failure. `alexandria/api/problems.py` maps them to HTTP."""

from typing import Any

from alexandria.common.database import OUT_OF_REACH
from quota.exceptions import QuotaError


class IsbndbError(Exception):
    """The common parent: ISBNdb did not give a usable answer. What it cost is in the journal."""


class IsbndbTimeout(IsbndbError):
    """No complete answer within ISBNDB_TIMEOUT_SECONDS. Not tried again: ISBNdb may have counted it."""


class IsbndbUnavailable(IsbndbError):
    """No connection, or a failure on ISBNdb's side, on every try.

    `retry_after`: the seconds it asked us to wait. `status`: that of its answer, if there was one.
    `given_up`: there was no call for another try.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, status: int | None = None) -> None:
        self.retry_after = retry_after
        self.status = status
        self.given_up = False
        super().__init__(message)


class IsbndbRefused(IsbndbError):
    """ISBNdb does not accept our key or our request, or sends us elsewhere. Not tried again: it would be the same."""


class IsbndbNotFound(IsbndbRefused):
    """ISBNdb knows nothing of that name."""


class IsbndbPageTooLarge(IsbndbError):
    """ISBNdb failed with status 500, as it does for an answer over 6 MB: ask for less."""


class IsbndbUndecodable(IsbndbError):
    """ISBNdb answered with something that is not what its contract says."""


ENDINGS = (QuotaError, IsbndbError, *OUT_OF_REACH)
"""What can stop an operation early: the quota, ISBNdb, or a database that does not answer."""


class EnrichmentStopped(Exception):
    """An operation stopped before its end.

    `reason`: the exception that stopped it, one of ENDINGS. `result`: what was stored until then, as an Enrichment,
    Bibliography, NewReleases, Flush or NotReconciled.
    """

    def __init__(self, result: Any, reason: Exception) -> None:
        self.result = result
        self.reason = reason
        super().__init__("The operation stopped early.")


class JobError(Exception):
    """The common parent: the job cannot be had, or not in this way."""


class JobEnded(JobError):
    """There is nothing left to cancel."""


class NothingToRetry(JobError):
    """The job is still under way, or nothing of it failed that could be asked for again."""


class IdempotencyKeyReused(JobError):
    """The consumer has used this idempotency key for something else."""


class IdempotencyKeyMalformed(JobError):
    """An idempotency key is 1 to 128 printable ASCII characters."""
