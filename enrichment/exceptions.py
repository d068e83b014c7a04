"""What can go wrong with ISBNdb, one class a failure. `alexandria/problems.py` maps them to HTTP."""


class IsbndbError(Exception):
    """The common parent: ISBNdb did not give a usable answer. What it cost is in the journal."""


class IsbndbTimeout(IsbndbError):
    """No complete answer within ISBNDB_TIMEOUT_SECONDS. Not tried again: ISBNdb may have counted it."""


class IsbndbUnavailable(IsbndbError):
    """No connection, or a failure on ISBNdb's side, on every try. `retry_after`: the seconds it asked us to wait."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class IsbndbRefused(IsbndbError):
    """ISBNdb does not accept our key or our request, or sends us elsewhere. Not tried again: it would be the same."""


class IsbndbUndecodable(IsbndbError):
    """ISBNdb answered with something that is not what its contract says."""
