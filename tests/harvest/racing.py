"""Processes for test_schedules.py that all get the message for one tick. Prints how many there were."""

import json
import multiprocessing
import sys
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

import django

django.setup()

from django.db import connection  # noqa: E402 (after the set-up)

from harvest import runs  # noqa: E402
from harvest.tasks import run_cron  # noqa: E402


def take(name: str, start: Barrier, done: Connection) -> None:
    connection.ensure_connection()
    start.wait()
    run_cron(name)
    done.send(None)


def main(processes: int, name: str, claims: str) -> None:
    if claims == "without":
        vars(runs)["claim_tick"] = lambda name, *, now, at_least: True
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(processes, timeout=60)
    pipes = [fork.Pipe(duplex=False) for _ in range(processes)]
    racers = [fork.Process(target=take, args=(name, start, pipe[1])) for pipe in pipes]
    for racer in racers:
        racer.start()
    print(json.dumps(sum(pipe[0].poll(timeout=60) for pipe in pipes)))
    for racer in racers:
        racer.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
