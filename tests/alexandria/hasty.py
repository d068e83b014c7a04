"""`python -m tests.alexandria.hasty …`: Celery whose crons may run every second, for a day that passes in a minute."""

import sys

import django
from celery.bin.celery import main

django.setup()

from harvest.crons.registry import CRONS, PLAIN_TASKS  # noqa: E402

if __name__ == "__main__":
    for entry in (*CRONS.values(), *PLAIN_TASKS.values()):
        object.__setattr__(entry, "min_seconds", 1)
    sys.exit(main())
