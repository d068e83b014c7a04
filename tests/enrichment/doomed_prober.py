"""A worker for tests that kill it in a probe: it prints "waiting" before the given question for the counter, and waits.

It enriches the ISBNs that follow the number.
"""

import sys
from typing import Any

import django

django.setup()

from enrichment.services import prices  # noqa: E402 (after the set-up)
from enrichment.services.enrich import enrich_isbns  # noqa: E402
from quota.spending import Spender  # noqa: E402
from tests.processes import wait_to_be_killed  # noqa: E402

if __name__ == "__main__":
    ask = prices._ask_counter
    asked: list[Spender] = []

    def ask_or_wait(spender: Spender) -> Any:
        asked.append(spender)
        return wait_to_be_killed() if len(asked) == int(sys.argv[1]) else ask(spender)

    prices._ask_counter, prices.PAUSES = ask_or_wait, (0.05,) * 5
    enrich_isbns(sys.argv[2:], consumer="reader")
