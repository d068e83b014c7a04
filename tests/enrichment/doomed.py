"""A worker for tests that kill it: it prints "waiting" at the given point of its work and then waits.

It enriches the given ISBNs, with commas between them (test_kill.py), or flushes the queue if there are none
(test_queue.py). For each further list of ISBNs it forks another worker.
"""

import os
import sys

import django

django.setup()

from enrichment.gateway import asking  # noqa: E402 (after the set-up)
from enrichment.gateway import connection as isbndb  # noqa: E402
from enrichment.services.enrich import enrich_isbns  # noqa: E402
from enrichment.services.queue_flush import flush  # noqa: E402
from quota.spending import Spender  # noqa: E402
from tests.processes import wait_to_be_killed  # noqa: E402


def wait_at(point: str) -> None:
    asking.MAX_LATE_SECONDS = 60.0  # the thread that gives a late request another send time can be the one that waits
    if point == "before the second dispatch":
        dispatch = Spender.dispatch
        Spender.dispatch = lambda self, *args, **options: (
            wait_to_be_killed() if self.dispatched else dispatch(self, *args, **options)
        )
    elif point == "between dispatch and send":
        isbndb.exchange = wait_to_be_killed
    elif point == "between answer and record":
        exchange = isbndb.exchange
        isbndb.exchange = lambda request, send_before: wait_to_be_killed(exchange(request, send_before))


if __name__ == "__main__":
    wait_at(sys.argv[1])
    lists = sys.argv[2:]
    while len(lists) > 1 and os.fork():
        lists.pop()  # the other worker has the last list
    if lists:
        enrich_isbns(lists[-1].split(","), consumer="reader")
    else:
        flush()
