"""20,000 small requests by 50 clients, through the queue and one by one.

`python -m tests.bench.queue` creates its own database and a sandbox and prints the calls and the books per call. It
exits with 1 when the queue takes more than 1.1 times the minimum of calls. Time is simulated.
"""

import logging
import sys
from datetime import UTC, datetime, timedelta

from tests.bench.scratch import scratch_database  # isort: skip (first: it sets Django up)

from django.conf import settings
from django.db import connection
from django.test.utils import override_settings

from alexandria.development.sandbox.server import Sandbox
from enrichment.services.enrich import enrich_isbns
from quota.models import Consumer
from tests.bench.queue_trace import CLIENTS, Request, distinct, make_trace, min_calls, naive_calls, run_trace
from tests.fixtures import NOON, slots_far_ahead

REQUESTS, SECONDS, CATALOGUE = 20_000, 600, 60_000
PART = 10  # the run with high priorities has a trace and batches that are so much smaller
HIGH = 0.02
SAMPLE = 200  # requests that are sent one by one, to check `naive_calls`
WANTED = 1.1


def run() -> bool:
    """Prints the figures; returns False when the queue takes too many calls."""
    logging.disable(logging.INFO)
    with scratch_database(), slots_far_ahead(), Sandbox(max_rps=None, batch_price="request") as sandbox:
        sandbox.set_clock(offset_seconds=(NOON - datetime.now(UTC)).total_seconds())
        with connection.cursor() as cursor:  # this bench counts calls, not time
            cursor.execute(f'ALTER DATABASE "{connection.settings_dict["NAME"]}" SET synchronous_commit = off')
        connection.close()
        with override_settings(ISBNDB_BASE_URL=sandbox.url, ISBNDB_API_KEY=sandbox.key, QUOTA_MAX_RPS=1000):
            Consumer.objects.create(slug="bench")
            sample = make_trace(SAMPLE, seconds=SECONDS, catalogue=CATALOGUE, first_slot=9_000)
            assert sum(enrich_isbns(each.isbns, consumer="bench").api_calls for each in sample) == naive_calls(sample)

            print(
                f"\n{REQUESTS:,} requests of 1 to 10 ISBNs by {CLIENTS} clients within {SECONDS} s, through the queue:"
            )
            trace = make_trace(REQUESTS, seconds=SECONDS, catalogue=CATALOGUE)
            ratio = show(trace, start=NOON)
            print(f"  ratio to the minimum of calls {ratio:.2f} (at most {WANTED})")

            print(f"A tenth of it, in batches of a tenth, with {HIGH:.0%} of the requests waiting at most 10 s:")
            with override_settings(ISBNDB_BATCH_SIZE=settings.ISBNDB_BATCH_SIZE // PART):
                urgent = make_trace(
                    REQUESTS // PART, seconds=SECONDS, catalogue=CATALOGUE // PART, first_slot=8_000, high=HIGH
                )
                print(f"  ratio {show(urgent, start=NOON + timedelta(hours=4)):.2f}: the price of the high priority")
    return ratio <= WANTED


def show(trace: list[Request], *, start: datetime) -> float:
    """Runs the trace, prints its cost, and returns the ratio to the minimum of calls."""
    outcome = run_trace(trace, consumer="bench", start=start)
    assert outcome.asked == distinct(trace)
    minimum, naive = min_calls(trace, settings.ISBNDB_BATCH_SIZE), naive_calls(trace)
    print(
        f"  {outcome.asked:,} distinct ISBNs, {outcome.calls:,} calls (minimum {minimum:,}), "
        f"{outcome.books_a_call:,.1f} books per call\n"
        f"  one by one: {naive:,} calls, {outcome.found / naive:.1f} books per call"
    )
    return outcome.calls / minimum


if __name__ == "__main__":
    sys.exit(0 if run() else 1)
