"""The racers of test_concurrency.py: processes that spend until they are refused. Prints what each one got.

Arguments: the number of processes, and the calls that each operation reserves or, for batches of any size, "batches".
"""

import json
import multiprocessing
import sys
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from random import Random

import django

django.setup()

from quota.exceptions import QuotaRefused  # noqa: E402
from quota.prices import RequestKind  # noqa: E402 (after the set-up)
from quota.services import reservations  # noqa: E402 (after the set-up)


def spend(calls_at_once: int | None, seed: int, start: Barrier, results: Connection) -> None:
    """Reserves `calls_at_once` calls again and again. None: the price of batches of any size, down to what is free."""
    reservations.expire()  # connects
    dice = Random(seed)
    granted, sent, free = 0, [], 1000
    start.wait()
    while free:
        isbns = None if calls_at_once else min(free, dice.randint(1, 1000))
        try:
            _, reserved, call = reservations.reserve_and_dispatch(
                consumer="racer",
                operation="race",
                calls=calls_at_once or 0,
                kind=RequestKind.PAGE if calls_at_once else RequestKind.BATCH,
                method="POST",
                path="/books",
                isbns_asked=isbns,
            )
        except QuotaRefused as refused:
            if calls_at_once:
                break
            free = refused.free
            continue
        granted += reserved
        if isinstance(call, reservations.DispatchedCall):
            sent.append(call.send_at.timestamp())
    results.send({"granted": granted, "sent": sent})


def main(processes: int, calls_at_once: int | None) -> None:
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(processes, timeout=60)
    pipes = [fork.Pipe(duplex=False) for _ in range(processes)]
    racers = [fork.Process(target=spend, args=(calls_at_once, seed, start, pipe[1])) for seed, pipe in enumerate(pipes)]
    for racer in racers:
        racer.start()
    print(json.dumps([pipe[0].recv() for pipe in pipes if pipe[0].poll(timeout=120)]))
    for racer in racers:
        racer.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), None if sys.argv[2] == "batches" else int(sys.argv[2]))
