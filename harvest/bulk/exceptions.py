"""What can come in the way of a bulk harvest, one class a failure."""

from datetime import datetime


class NamesUnreadable(Exception):
    """The list of authors cannot be read, or has none."""


class NothingToResume(Exception):
    """No harvest that stopped was found."""


class AlreadyBegun(Exception):
    """A harvest of the same list stopped on its way: it can be resumed, or begun anew, but not by accident."""


class AnotherCopy(Exception):
    """Another process works on this harvest; the message says which, and since when."""


class Interrupted(Exception):
    """Somebody asked for an end; everything until then is on record."""


class CannotGoOn(Exception):
    """It makes no sense to go on: our server or its database is gone, the key is refused, harvesting is off."""


class NotFetched(Exception):
    """No page of an author came. `calls`: what was spent on it all the same."""

    def __init__(self, message: str, *, calls: int = 0) -> None:
        self.calls = calls
        super().__init__(message)


class AuthorFailed(NotFetched):
    """This author cannot be had now; others may. `reason`: a word for programs."""

    def __init__(self, reason: str, message: str, *, calls: int = 0) -> None:
        self.reason = reason
        super().__init__(message, calls=calls)


class TryLater(NotFetched):
    """Our own side is out of reach or busy. `retry_after`: seconds, where it said so.

    `in_doubt`: it may have been done all the same, and paid for: to try again may cost as much again.
    """

    def __init__(
        self, message: str, *, calls: int = 0, retry_after: float | None = None, in_doubt: bool = False
    ) -> None:
        self.retry_after = retry_after
        self.in_doubt = in_doubt or calls > 0
        super().__init__(message, calls=calls)


class QuotaGone(NotFetched):
    """A limit of the quota. `retry_at`: when to come back, `seconds`: in how many; None when it does not help."""

    def __init__(
        self, limit: str, message: str, *, retry_at: datetime | None, seconds: float | None, calls: int = 0
    ) -> None:
        self.limit = limit
        self.retry_at = retry_at
        self.seconds = seconds
        super().__init__(message, calls=calls)
