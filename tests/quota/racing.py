"""The racers of test_concurrency.py: processes that spend until they are refused. Prints what each one got."""

import json
import multiprocessing
import sys
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

import django

django.setup()

from quota.exceptions import QuotaRefused  # noqa: E402
from quota.prices import RequestKind  # noqa: E402 (after the set-up)
from quota.services import reservations  # noqa: E402 (after the set-up)


def spend(calls_at_once: int, start: Barrier, results: Connection) -> None:
    reservations.expire()  # connects
    granted, sent = 0, []
    start.wait()
    while True:
        try:
            _, _, call = reservations.reserve_and_dispatch(
                consumer="racer",
                operation="race",
                calls=calls_at_once,
                kind=RequestKind.BATCH,
                method="POST",
                path="/books",
                max_slot_distance=timedelta(days=1),  # nothing is sent, so there is no need to wait for the pace
            )
        except QuotaRefused:
            break
        granted += calls_at_once
        if isinstance(call, reservations.DispatchedCall):
            sent.append(call.send_at.timestamp())
    results.send({"granted": granted, "sent": sent})


def main(processes: int, calls_at_once: int) -> None:
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(processes, timeout=60)
    pipes = [fork.Pipe(duplex=False) for _ in range(processes)]
    racers = [fork.Process(target=spend, args=(calls_at_once, start, pipe[1])) for pipe in pipes]
    for racer in racers:
        racer.start()
    print(json.dumps([pipe[0].recv() for pipe in pipes if pipe[0].poll(timeout=120)]))
    for racer in racers:
        racer.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
