"""A worker for test_new_releases_cron.py: it runs a cron and prints "waiting" before the given page is stored."""

import sys

import django

django.setup()

from enrichment.services.listings import Progress  # noqa: E402 (after the set-up)
from harvest.runs import run_cron  # noqa: E402
from tests.processes import wait_to_be_killed  # noqa: E402

if __name__ == "__main__":
    cron, pages = sys.argv[1], int(sys.argv[2])
    store = Progress.store
    Progress.store = lambda self, *args, **options: (
        store(self, *args, **options) if self.pages_fetched < pages else wait_to_be_killed()
    )
    run_cron(cron)
