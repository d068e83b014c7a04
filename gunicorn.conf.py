"""What gunicorn reads at its start, from the folder in which it is started; the Procfile has the rest."""

import os
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "alexandria.settings")

from django.conf import settings

from alexandria.monitoring.multiprocess import VARIABLE, process_name

logconfig_dict = settings.LOGGING  # one form for every line, gunicorn's own included


def child_exit(server: Any, worker: Any) -> None:
    """What a dead worker had counted stays; what only a living one has (gauges of that kind) goes."""
    if VARIABLE in os.environ:
        mark_process_dead(process_name(worker.pid))
