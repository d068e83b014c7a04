"""The processes of test_turns.py: background work that always has a next request, until no call is left.

Arguments: the consumer of each process.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.process import BaseProcess

import django

django.setup()

from django.db import connection  # noqa: E402 (after the set-up)

from quota.exceptions import QuotaRefused  # noqa: E402 (after the set-up)
from quota.prices import RequestKind  # noqa: E402 (after the set-up)
from quota.services import reservations  # noqa: E402 (after the set-up)
from quota.services.reservations import DispatchedCall  # noqa: E402 (after the set-up)
from quota.spending import in_background  # noqa: E402 (after the set-up)


def dispatch(consumer: str) -> DispatchedCall:
    """One request of the consumer. Tries again when it is told to, until the pace has a slot for it."""
    reservation, _, answer = reservations.reserve_and_dispatch(
        consumer=consumer,
        operation="endless",
        calls=1,
        kind=RequestKind.PAGE,
        method="GET",
        path="/author/x",
    )
    while isinstance(answer, timedelta):
        time.sleep(answer.total_seconds())
        answer = reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")
    return answer


def start(consumers: list[str], *, is_over: Callable[[], bool] = lambda: False) -> list[BaseProcess]:
    """Starts a process for each entry. It ends when no call is left, or when `is_over`."""
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(len(consumers), timeout=60)

    def work(consumer: str) -> None:
        connection.ensure_connection()
        barrier.wait()
        with in_background():
            while not is_over():
                try:
                    dispatch(consumer)
                except QuotaRefused:
                    return

    connection.close()  # not to be shared with the processes
    workers = [fork.Process(target=work, args=(consumer,)) for consumer in consumers]
    for worker in workers:
        worker.start()
    return list(workers)


def main(consumers: list[str]) -> None:
    workers = start(consumers)
    for worker in workers:
        worker.join()
    sys.exit(max(abs(worker.exitcode or 0) for worker in workers))


if __name__ == "__main__":
    main(sys.argv[1:])
