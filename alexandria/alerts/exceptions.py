class AlertError(Exception):
    """Base of what the alerts refuse or fail at."""


class AddressRefused(AlertError):
    """Nothing is sent to this address."""


class NotSent(AlertError):
    """The message did not get through; `status` is that of an HTTP answer, if there was one."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class NothingToRetry(AlertError):
    """Only a message that was given up can be sent again."""
