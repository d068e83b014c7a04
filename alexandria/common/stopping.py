"""Whether this process is told to end, so that long work ends between two requests with what was done."""

import multiprocessing
import signal
from typing import Any

from celery.signals import worker_shutting_down


class Flag:
    """A flag that Celery's main process shares with the processes that it forks: they get no signal themselves.

    It has no lock, as `multiprocessing.Event` has: one process that is killed while it looks would stop all others.
    """

    def __init__(self) -> None:
        self._value = multiprocessing.RawValue("b", 0)

    def set(self) -> None:
        self._value.value = 1

    def clear(self) -> None:
        self._value.value = 0

    def is_set(self) -> bool:
        return bool(self._value.value)

    def unshare(self) -> None:
        """From now on this process has a flag of its own, which is not set."""
        self._value = multiprocessing.RawValue("b", 0)


STOPPING = Flag()


class EndAtOnce(KeyboardInterrupt):
    """A person ends the process for the second time: it waits for nothing that is under way."""


@worker_shutting_down.connect(dispatch_uid="alexandria.common.stopping")
def stop(*_: Any, **__: Any) -> None:
    STOPPING.set()


def stop_on_sigterm() -> None:
    """Sets STOPPING when this process gets SIGTERM, before what its server does then.

    Of this process alone: gunicorn also ends single workers, when it reloads or is told to have fewer.
    """
    STOPPING.unshare()
    then = signal.getsignal(signal.SIGTERM)

    def stop_and_then(number: int, frame: Any) -> None:
        STOPPING.set()
        if callable(then):
            then(number, frame)

    signal.signal(signal.SIGTERM, stop_and_then)
