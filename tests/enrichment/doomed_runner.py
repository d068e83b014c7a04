"""A worker for test_jobs_kill.py: it runs a job, prints "waiting" at the given point, and then waits.

It has one request under way. test_kills_under_way.py kills runners with many.
"""

import sys

import django

django.setup()

from enrichment.gateway import asking  # noqa: E402 (after the set-up)
from enrichment.jobs.kinds import batch_direct  # noqa: E402
from enrichment.jobs.workers import run_job  # noqa: E402
from tests.enrichment.doomed import wait_at  # noqa: E402
from tests.processes import wait_to_be_killed  # noqa: E402

if __name__ == "__main__":
    asking.MAX_UNDER_WAY = 1
    if sys.argv[1] == "between claim and first step":
        batch_direct.Kind.begin = wait_to_be_killed
    elif sys.argv[1] == "between storing and recording":
        batch_direct._mark = wait_to_be_killed
    wait_at(sys.argv[1])
    run_job()
