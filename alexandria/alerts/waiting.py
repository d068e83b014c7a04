"""What may hang and knows no time-out of its own: a look-up of a host, a broker that takes a question and is silent."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def within(seconds: float, function: Callable[[], Result]) -> Result:
    """What the function returns or raises, in a thread of its own. Raises TimeoutError; the thread is left behind then.

    The function must not use the database: its connection would stay open.
    """
    result: Future[Result] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised where the result is waited for
            result.set_exception(error)

    threading.Thread(target=run, daemon=True, name=f"within {seconds} s").start()
    return result.result(timeout=seconds)
