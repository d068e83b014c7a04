"""What may hang, such as a question to a server that is gone, asked in a thread that nobody waits for too long."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from django.db import connections

Result = TypeVar("Result")


class Overdue(TimeoutError):
    """There is no result yet; the thread goes on."""


class _Run(threading.Thread, Generic[Result]):
    def __init__(self, function: Callable[[], Result]) -> None:
        super().__init__(name=f"bounded {function.__name__}", daemon=True)  # not to be waited for at the exit either
        self.function = function
        self.ended = threading.Event()
        self.result: Result
        self.error: BaseException | None = None
        self.seconds = 0.0

    def run(self) -> None:
        began = time.monotonic()
        try:
            self.result = self.function()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
            self.error = error
        finally:
            connections.close_all()
            self.seconds = time.monotonic() - began
            self.ended.set()


class Bounded(Generic[Result]):
    """A function that runs in a thread, one at a time: who asks while it runs waits for the same result.

    So whatever hangs takes one thread and one connection of each process, however often it is asked for.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._running: _Run[Result] | None = None

    def start(self) -> _Run[Result]:
        """Starts it, unless it runs; for `wait_for`."""
        with self._lock:
            if self._running is None or self._running.ended.is_set():
                self._running = _Run(self._function)
                self._running.start()
            return self._running


def wait_for(run: _Run[Result], *, until: float) -> Result:
    """The result, waited for until that moment of the monotonic clock. Raises Overdue, or what the function raised."""
    if not run.ended.wait(max(0.0, until - time.monotonic())):
        raise Overdue("There is no result yet.")
    if run.error is not None:
        raise run.error
    return run.result


def within(seconds: float, function: Callable[[], Result]) -> Result:
    """What the function returns or raises, in a thread of its own. Raises Overdue."""
    return wait_for(Bounded(function).start(), until=time.monotonic() + seconds)
