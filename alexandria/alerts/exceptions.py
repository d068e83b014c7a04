class AlertError(Exception):
    """Base class of the errors of alerts."""


class NotSent(AlertError):
    """The message was not delivered. `status` is the HTTP status, if there was an answer."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class NothingToRetry(AlertError):
    """Only a message that was given up can be sent again."""
