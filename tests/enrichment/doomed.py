"""A worker for tests that kill it: it prints "waiting" at the given point of its work and then waits.

It enriches the given ISBNs (test_kill.py) or, without any, flushes the queue (test_queue.py).
"""

import sys
import time
from typing import Any

import django

django.setup()

from enrichment.gateway import client  # noqa: E402 (after the set-up)
from enrichment.services.enrich import enrich_isbns  # noqa: E402
from enrichment.services.queue import flush  # noqa: E402
from quota.spending import Spender  # noqa: E402


def wait_to_be_killed(*args: Any, **options: Any) -> Any:
    print("waiting", flush=True)
    time.sleep(3600)


def wait_at(point: str) -> None:
    if point == "before the second dispatch":
        dispatch = Spender.dispatch
        Spender.dispatch = lambda self, *args, **options: (
            wait_to_be_killed() if self.dispatched else dispatch(self, *args, **options)
        )
    elif point == "between dispatch and send":
        client._exchange = wait_to_be_killed
    elif point == "between answer and record":
        exchange = client._exchange
        client._exchange = lambda request, send_before: wait_to_be_killed(exchange(request, send_before))


if __name__ == "__main__":
    wait_at(sys.argv[1])
    if isbns := sys.argv[2:]:
        enrich_isbns(isbns, consumer="reader")
    else:
        flush(consumer="reader")
