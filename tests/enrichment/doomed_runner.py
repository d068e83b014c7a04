"""A worker of test_jobs_kill.py: works on a job, says "there" at the given point, and waits for its end."""

import sys
import uuid

import django

django.setup()

from enrichment.jobs import batches  # noqa: E402 (after the set-up)
from enrichment.jobs.runner import run_job  # noqa: E402
from tests.enrichment.doomed import wait_at, wait_for_the_end  # noqa: E402

if __name__ == "__main__":
    if sys.argv[1] == "between claim and first step":
        batches.step = wait_for_the_end
    elif sys.argv[1] == "between storing and writing it down":
        batches._mark = wait_for_the_end
    wait_at(sys.argv[1])
    run_job(uuid.UUID(sys.argv[2]))
