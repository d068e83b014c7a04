"""Probes: whether the process lives, whether it may be given work, and how the parts that it needs are.

They need no key, answer within three seconds whatever is down, and tell nothing of where things are.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

import structlog
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils.log import log_response

from alexandria.common.timeouts import Bounded, Overdue, wait_for
from alexandria.monitoring import metrics
from alexandria.monitoring.workers import QUEUES, has_beat, workers_by_queue
from quota.selectors.status import get_status, key_refused_at

log = structlog.get_logger(__name__)

PATIENCE = 2.5
"""Seconds; what has not answered by then is down."""
REPLIES_WITHIN = 1.5
"""Seconds for which workers and beat are listened to after the last reply; they reply at once, as a rule."""
KEY_REFUSED_RECENTLY = timedelta(hours=1)


class Unwell(Exception):
    """A part does not do what it should; the message says what, in words that anybody may read."""


def probes(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware, outermost but one: probes and scrapes come over plain HTTP and call the machine by its address."""
    answers: dict[str, Callable[[HttpRequest], HttpResponseBase]] = {
        "/livez": live,
        "/readyz": ready,
        "/healthz": healthy,
        "/metrics": metrics.scrape,
    }

    def middleware(request: HttpRequest) -> HttpResponseBase:
        answer = answers.get(request.path)
        return answer(request) if answer else get_response(request)

    return middleware


def live(request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"})


def ready(request: HttpRequest) -> JsonResponse:
    """503 unless PostgreSQL answers and has every migration of this code: then the process may be given requests."""
    found = _look("database", "migrations")
    return _answer(request, "ok" if all(each.is_well for each in found.values()) else "down", found)


def healthy(request: HttpRequest) -> JsonResponse:
    """503 without PostgreSQL, which nothing works without; "degraded" when something else is missing."""
    found = _look(*CHECKS)
    if not found["database"].is_well:
        return _answer(request, "down", found)
    return _answer(request, "ok" if all(each.is_well for each in found.values()) else "degraded", found)


def check_database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return "answers"


def check_migrations() -> str:
    wanted = set(MigrationLoader(None).graph.leaf_nodes())
    missing = sorted(wanted - set(MigrationRecorder(connection).applied_migrations()))
    if missing:
        raise Unwell(f"not applied: {', '.join(f'{label}.{name}' for label, name in missing)}")
    return "all applied"


def check_redis() -> str:
    cache.get("health")
    return "answers"


def check_workers() -> str:
    """That every queue has a worker."""
    found = workers_by_queue(expected=QUEUES, seconds=REPLIES_WITHIN)
    if missing := sorted(QUEUES - set(found)):
        raise Unwell(f"no worker takes tasks from the queue {' and '.join(missing)}")
    return "each queue has one"


def check_beat() -> str:
    """That a beat ticks."""
    if not has_beat(seconds=REPLIES_WITHIN):
        raise Unwell("no beat answers: nothing is begun on schedule")
    return "ticks"


def check_isbndb() -> str:
    """That calls may go out, by what ISBNdb said last; it is not asked, since that would cost a call."""
    if not settings.ISBNDB_API_KEY:
        raise Unwell("ISBNDB_API_KEY is not set: no call is made")
    status = get_status()
    if status.closed_reason is not None:
        raise Unwell(f"closed the day, until {status.reset_at:%H:%M} UTC")
    refused_at = key_refused_at()
    if refused_at and status.now - refused_at < KEY_REFUSED_RECENTLY:
        raise Unwell(f"did not accept our key at {refused_at:%H:%M} UTC, and has answered nothing since")
    return "open"


CHECKS: dict[str, Bounded[str]] = {
    "database": Bounded(check_database),
    "migrations": Bounded(check_migrations),
    "redis": Bounded(check_redis),
    "workers": Bounded(check_workers),
    "beat": Bounded(check_beat),
    "isbndb": Bounded(check_isbndb),
}


@dataclass(frozen=True)
class Finding:
    is_well: bool
    detail: str
    ms: int


def _look(*names: str) -> dict[str, Finding]:
    """Runs these checks at the same time, for PATIENCE."""
    began = time.monotonic()
    runs = {name: CHECKS[name].start() for name in names}
    found: dict[str, Finding] = {}
    for name, run in runs.items():
        try:
            well, detail = True, wait_for(run, until=began + PATIENCE)
        except Unwell as unwell:
            well, detail = False, str(unwell)
        except Overdue:
            well, detail = False, f"no answer within {PATIENCE} s"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is why the check failed
            well, detail = False, f"failed ({type(error).__name__}); the log says more"
            log.warning("health.check_failed", check=name, error=f"{type(error).__name__}: {error}")
        seconds = run.seconds if run.ended.is_set() else time.monotonic() - began
        found[name] = Finding(well, detail, round(1000 * seconds))
    return found


def _answer(request: HttpRequest, status: str, found: dict[str, Finding]) -> JsonResponse:
    checks = {
        name: {"status": "ok" if each.is_well else "down", "detail": each.detail, "ms": each.ms}
        for name, each in found.items()
    }
    code = HTTPStatus.SERVICE_UNAVAILABLE if status == "down" else HTTPStatus.OK
    response = JsonResponse({"status": status, "checks": checks}, status=code, headers={"Cache-Control": "no-store"})
    if code == HTTPStatus.SERVICE_UNAVAILABLE:  # or else Django writes an error, which does not say more
        log_response("%s: %s", status, request.path, response=response, request=request, level="debug")
    return response
