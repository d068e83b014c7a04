"""What can go wrong with ISBNdb and with jobs, one class a failure. `alexandria/api/problems.py` maps them to HTTP."""


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
