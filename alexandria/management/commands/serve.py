"""`manage.py serve web|worker|jobs|beat`: becomes one process of the service."""

import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from alexandria.common.commands import ToolCommand
from alexandria.env import BASE_DIR

PROCESSES = ("web", "worker", "jobs", "beat")
CELERY = ("celery", "--app", "alexandria", "--quiet")


class Command(ToolCommand):
    help = """Becomes one process of the service, in the foreground, until SIGTERM. A service needs all four of them.

processes:
  web     answers HTTP on BIND and PORT
  worker  runs crons and the queue
  jobs    runs jobs
  beat    tells worker and jobs what is due

The settings WEB_CONCURRENCY, WEB_THREADS, WORKER_CONCURRENCY and JOBS_CONCURRENCY say how many run at once."""
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("process", choices=PROCESSES)

    def handle(self, *args: Any, process: str, **options: Any) -> None:
        os.chdir(BASE_DIR)  # `python -m` finds our packages there
        os.environ["WEB_CONCURRENCY"] = str(settings.WEB_CONCURRENCY)  # gunicorn reads it too: an empty one stops it
        os.execv(sys.executable, [sys.executable, "-m", *arguments(process)])  # noqa: S606 - no shell is wanted


def arguments(process: str) -> list[str]:
    """The module that the process runs, and its arguments. gunicorn.conf.py has the options of web."""
    if process == "web":
        return ["gunicorn", "--config", str(BASE_DIR / "gunicorn.conf.py")]
    if process == "beat":
        return [*CELERY, "beat", "--loglevel", "INFO"]
    worker = [*CELERY, "worker", "--loglevel", "INFO"]
    if process == "jobs":
        queues = ["--queues", "jobs,alerts", "--hostname", "jobs@%h"]
        return [*worker, *queues, "--concurrency", str(settings.JOBS_CONCURRENCY)]
    return [*worker, "--queues", "celery,alerts", "--concurrency", str(settings.WORKER_CONCURRENCY)]
