"""All options of the web server. `manage.py serve web` starts it with this file."""

import os
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "alexandria.settings")

from django.conf import settings

from alexandria.common.stopping import stop_on_sigterm
from alexandria.monitoring.multiprocess import VARIABLE, process_name
from alexandria.web_worker import MAX_CONNECTIONS

wsgi_app = "alexandria.wsgi"
bind = [f"{settings.BIND}:{settings.PORT}"]
workers = settings.WEB_CONCURRENCY
worker_class = "alexandria.web_worker.Worker"  # docs/adr/0005-gunicorn.md
worker_connections = MAX_CONNECTIONS
sendfile = False  # it would wait for a slow client without a limit
threads = settings.WEB_THREADS
timeout = 180
graceful_timeout = 170  # longer than what is under way at a stop takes: long requests end between two batches
control_socket_disable = True
forwarded_allow_ips = ""  # gunicorn believes no proxy: alexandria/common/proxies.py alone decides
secure_scheme_headers: dict[str, str] = {}
logconfig_dict = settings.LOGGING  # gunicorn's own lines have the same form as ours


def post_worker_init(worker: Any) -> None:
    """Long requests end between two batches, with what was done, when the worker is told to end."""
    stop_on_sigterm()


def child_exit(server: Any, worker: Any) -> None:
    """Removes the live gauges of a dead worker. Its counters stay."""
    if VARIABLE in os.environ:
        mark_process_dead(process_name(worker.pid))
