"""A worker of test_kill.py: enriches ISBNs in two batches, says "there" at the given point, and waits for its end."""

import sys
import time
from typing import Any

import django

django.setup()

from enrichment import gateway, services  # noqa: E402 (after the set-up)
from quota.spending import Spending  # noqa: E402


def wait_for_the_end(*args: Any, **options: Any) -> Any:
    print("there", flush=True)
    time.sleep(3600)


def wait_at(point: str) -> None:
    if point == "before the second dispatch":
        dispatch = Spending.dispatch
        Spending.dispatch = lambda self, *args, **options: (
            wait_for_the_end() if self.dispatched else dispatch(self, *args, **options)
        )
    elif point == "between dispatch and send":
        gateway._exchange = wait_for_the_end
    elif point == "between answer and record":
        exchange = gateway._exchange
        gateway._exchange = lambda request, send_before: wait_for_the_end(exchange(request, send_before))


if __name__ == "__main__":
    wait_at(sys.argv[1])
    services.enrich_isbns(sys.argv[2:], consumer="reader")
