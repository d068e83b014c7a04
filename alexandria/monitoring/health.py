"""Probes: does the process answer, is it ready for requests, and do all parts work?

They need no key and answer within three seconds, whatever is down. They do not reveal addresses.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

import structlog
from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils.log import log_response
from django_redis import get_redis_connection

from alexandria.common.text import as_people_read
from alexandria.common.timeouts import Bounded, Overdue, wait_for
from alexandria.monitoring import metrics
from alexandria.monitoring.workers import QUEUES, has_beat, workers_by_queue
from enrichment.books.aside import answers_aside, bad_answers
from harvest.schedules import overdue
from quota.selectors.status import get_status, key_refused_at

log = structlog.get_logger(__name__)

MAX_SECONDS = 2.5
"""A part that has not answered by then is down."""
MAX_REPLY_SECONDS = 1.5
"""How long to wait for workers and beat after the last reply. They normally reply at once."""
CRON_GRACE = timedelta(minutes=2)
"""So late a cron may run: its worker can be busy."""
KEY_REFUSED_RECENTLY = timedelta(hours=1)


class CheckFailed(Exception):
    """A part does not work. Everybody may read the message."""


def probes(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware for probes and scrapes. It runs early, because they use plain HTTP and the machine's IP address."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        answer = ANSWERS.get(request.path)
        return answer(request) if answer else get_response(request)

    return middleware


def live(request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"})


def ready(request: HttpRequest) -> JsonResponse:
    """200 when PostgreSQL answers and has all migrations of this code, so that the process can take requests."""
    found = _run_checks("database", "migrations")
    return _answer(request, "ok" if all(each.is_ok for each in found.values()) else "down", found)


def healthy(request: HttpRequest) -> JsonResponse:
    """503 without PostgreSQL, because nothing works without it. "degraded" when another part is down."""
    found = _run_checks(*CHECKS)
    if not found["database"].is_ok:
        return _answer(request, "down", found)
    return _answer(request, "ok" if all(each.is_ok for each in found.values()) else "degraded", found)


def check_database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return "answers"


def check_migrations() -> str:
    wanted = set(MigrationLoader(None).graph.leaf_nodes())
    missing = sorted(wanted - set(MigrationRecorder(connection).applied_migrations()))
    if missing:
        raise CheckFailed(f"not applied: {', '.join(f'{label}.{name}' for label, name in missing)}")
    return "all applied"


def check_redis() -> str:
    get_redis_connection().ping()
    return "answers"


def check_workers() -> str:
    """Every queue has a worker."""
    found = workers_by_queue(expected=QUEUES, seconds=MAX_REPLY_SECONDS)
    if missing := sorted(QUEUES - set(found)):
        raise CheckFailed(f"no worker consumes the queue {' and '.join(missing)}")
    return "each queue has one"


def check_beat() -> str:
    """A beat ticks."""
    if not has_beat(seconds=MAX_REPLY_SECONDS):
        raise CheckFailed("no beat answers: nothing starts on schedule")
    return "ticks"


def check_isbndb() -> str:
    """Calls are possible, as far as ISBNdb's last answers show. ISBNdb is not asked: that can cost a call."""
    if not settings.ISBNDB_API_KEY:
        raise CheckFailed("ISBNDB_API_KEY is not set: no call is possible")
    status = get_status()
    if status.closed_reason is not None:
        raise CheckFailed(f"closed the day until {as_people_read(status.reset_at)}")
    if status.paused_until is not None:
        raise CheckFailed(f"pauses until {as_people_read(status.paused_until, seconds=True)}: {status.paused_reason}")
    refused_at = key_refused_at()
    if refused_at and status.now - refused_at < KEY_REFUSED_RECENTLY:
        raise CheckFailed(f"did not accept our key at {as_people_read(refused_at)}, and has not answered since")
    return "open"


def check_crons() -> str:
    """Each cron has run when its schedule said so: a worker that answers can still drop every message."""
    late = overdue(now=get_status().now, grace=CRON_GRACE)
    if late:
        since = ", ".join(f"{name} (due at {as_people_read(at, seconds=True)})" for name, at in sorted(late.items()))
        raise CheckFailed(f"late: {since}. Compare the clocks of beat and the workers")
    return "on time"


def check_answers() -> str:
    """Every paid answer is in the database."""
    if waiting := answers_aside():
        raise CheckFailed(f"{waiting} paid answers wait in files until the database takes them")
    if bad := bad_answers():
        raise CheckFailed(f"{bad} paid answers cannot be stored: look at the files with the ending .bad")
    return "all stored"


CHECKS: dict[str, Bounded[str]] = {
    "database": Bounded(check_database),
    "migrations": Bounded(check_migrations),
    "redis": Bounded(check_redis),
    "workers": Bounded(check_workers),
    "beat": Bounded(check_beat),
    "crons": Bounded(check_crons),
    "isbndb": Bounded(check_isbndb),
    "answers": Bounded(check_answers),
}


ANSWERS: dict[str, Callable[[HttpRequest], HttpResponseBase]] = {
    "/livez": live,
    "/readyz": ready,
    "/healthz": healthy,
    "/metrics": metrics.scrape,
}
"""The worker of the web server keeps threads for these paths (alexandria/web_worker.py)."""


@dataclass(frozen=True)
class Result:
    is_ok: bool
    detail: str
    ms: int


def _run_checks(*names: str) -> dict[str, Result]:
    """Runs these checks at the same time, for at most MAX_SECONDS."""
    began = time.monotonic()
    runs = {name: CHECKS[name].start() for name in names}
    found: dict[str, Result] = {}
    for name, run in runs.items():
        try:
            ok, detail = True, wait_for(run, until=began + MAX_SECONDS)
        except CheckFailed as failure:
            ok, detail = False, str(failure)
        except Overdue:
            ok, detail = False, f"no answer within {MAX_SECONDS} s"
        except Exception as error:  # noqa: BLE001 - any error means that the check failed
            ok, detail = False, f"failed ({type(error).__name__}); see the log"
            log.warning("health.check_failed", check=name, error=f"{type(error).__name__}: {error}")
        seconds = run.seconds if run.ended.is_set() else time.monotonic() - began
        found[name] = Result(ok, detail, round(1000 * seconds))
    return found


def _answer(request: HttpRequest, status: str, found: dict[str, Result]) -> JsonResponse:
    checks = {
        name: {"status": "ok" if each.is_ok else "down", "detail": each.detail, "ms": each.ms}
        for name, each in found.items()
    }
    code = HTTPStatus.SERVICE_UNAVAILABLE if status == "down" else HTTPStatus.OK
    response = JsonResponse({"status": status, "checks": checks}, status=code, headers={"Cache-Control": "no-store"})
    if code == HTTPStatus.SERVICE_UNAVAILABLE:  # otherwise Django logs an error without more information
        log_response("%s: %s", status, request.path, response=response, request=request, level="debug")
    return response
