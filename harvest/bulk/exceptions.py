"""What can go wrong in a bulk harvest, one class per failure."""

from datetime import datetime


class NothingToResume(Exception):
    """There is no stopped harvest."""


class AlreadyBegun(Exception):
    """A harvest of the same list has stopped: the user must choose between resume and restart."""


class AnotherCopy(Exception):
    """Another process works on this harvest; the message says which one and since when."""


class Interrupted(Exception):
    """A person ended the harvest; everything up to then is recorded."""


class CannotGoOn(Exception):
    """The harvest cannot continue: the server or database is gone, the key is refused, or harvesting is off."""


class NotFetched(Exception):
    """A page of an author was not fetched. `calls`: the calls that were spent anyway."""

    def __init__(self, message: str, *, calls: int = 0) -> None:
        self.calls = calls
        super().__init__(message)


class AuthorFailed(NotFetched):
    """This author failed; others can succeed. `reason`: a code for programs."""

    def __init__(self, reason: str, message: str, *, calls: int = 0) -> None:
        self.reason = reason
        super().__init__(message, calls=calls)


class TryLater(NotFetched):
    """Our server or database is out of reach or busy. `retry_after`: seconds, if the server said so.

    `in_doubt`: the request may have been carried out and paid for, so that another try may cost as much again.
    """

    def __init__(
        self, message: str, *, calls: int = 0, retry_after: float | None = None, in_doubt: bool = False
    ) -> None:
        self.retry_after = retry_after
        self.in_doubt = in_doubt or calls > 0
        super().__init__(message, calls=calls)


class QuotaGone(NotFetched):
    """A limit of the quota is reached. `retry_at`, `seconds`: when a retry can succeed; None when it never can."""

    def __init__(
        self, limit: str, message: str, *, retry_at: datetime | None, seconds: float | None, calls: int = 0
    ) -> None:
        self.limit = limit
        self.retry_at = retry_at
        self.seconds = seconds
        super().__init__(message, calls=calls)
