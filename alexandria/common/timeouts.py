"""Runs functions that can hang, such as a question to a dead server, in a thread, and waits only for a limited time."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from django.db import connections

Result = TypeVar("Result")


class Overdue(TimeoutError):
    """There is no result yet. The thread continues."""


class _Run(threading.Thread, Generic[Result]):
    def __init__(self, function: Callable[[], Result]) -> None:
        super().__init__(name=f"bounded {function.__name__}", daemon=True)  # does not delay the exit
        self.function = function
        self.ended = threading.Event()
        self.result: Result
        self.error: BaseException | None = None
        self.seconds = 0.0

    def run(self) -> None:
        began = time.monotonic()
        try:
            self.result = self.function()
        except BaseException as error:  # noqa: BLE001 - `wait_for` raises it
            self.error = error
        finally:
            connections.close_all()
            self.seconds = time.monotonic() - began
            self.ended.set()


class Bounded(Generic[Result]):
    """A function that runs in a thread, once at a time. A caller that comes while it runs waits for the same result.

    So a function that hangs uses one thread and one connection of the process, however often it is called.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._running: _Run[Result] | None = None

    def start(self) -> _Run[Result]:
        """Starts the function unless it runs. Pass the result to `wait_for`."""
        with self._lock:
            if self._running is None or self._running.ended.is_set():
                self._running = _Run(self._function)
                self._running.start()
            return self._running


def wait_for(run: _Run[Result], *, until: float) -> Result:
    """Waits for the result until this time of the monotonic clock. Raises Overdue, or the error of the function."""
    if not run.ended.wait(max(0.0, until - time.monotonic())):
        raise Overdue("There is no result yet.")
    if run.error is not None:
        raise run.error
    return run.result


def within(seconds: float, function: Callable[[], Result]) -> Result:
    """Runs the function in its own thread and returns or raises what it does. Raises Overdue after `seconds`."""
    return wait_for(Bounded(function).start(), until=time.monotonic() + seconds)
