"""The work that test_kills_under_way.py kills: `python -m tests.harvest.under_way`, with the id of a job or `flush`."""

import sys

import django

django.setup()

from enrichment.jobs.workers import run_job  # noqa: E402 (after the set-up)
from enrichment.models import Job, QueuedIsbn  # noqa: E402
from harvest.runs import run_cron  # noqa: E402

if __name__ == "__main__":
    if sys.argv[1] == "flush":
        while QueuedIsbn.objects.exists():
            run = run_cron("queue-flush")
            assert run is not None
            assert run.outcome == "succeeded", run.reason
    else:
        while Job.objects.get(pk=sys.argv[1]).state == Job.State.QUEUED:
            run_job()
