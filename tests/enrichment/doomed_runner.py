"""A worker for test_jobs_kill.py: it runs a job, prints "waiting" at the given point, and then waits."""

import sys
import uuid

import django

django.setup()

from enrichment.jobs import batches  # noqa: E402 (after the set-up)
from enrichment.jobs.runner import run_job  # noqa: E402
from tests.enrichment.doomed import wait_at, wait_to_be_killed  # noqa: E402

if __name__ == "__main__":
    if sys.argv[1] == "between claim and first step":
        batches.step = wait_to_be_killed
    elif sys.argv[1] == "between storing and recording":
        batches._mark = wait_to_be_killed
    wait_at(sys.argv[1])
    run_job(uuid.UUID(sys.argv[2]))
