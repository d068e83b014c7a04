"""Probes. Both answer without a key."""

from collections.abc import Callable

import structlog
from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, HttpResponseBase, JsonResponse

log = structlog.get_logger(__name__)


def probes(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware, outermost: probes come over plain HTTP and call the machine by its address."""
    answers = {"/livez": live, "/healthz": healthy}

    def middleware(request: HttpRequest) -> HttpResponseBase:
        answer = answers.get(request.path)
        return answer() if answer else get_response(request)

    return middleware


def live() -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"})


def healthy() -> JsonResponse:
    """503 without PostgreSQL, which nothing works without; "degraded" without Redis, which makes it only slower."""
    database, redis = _works(_ask_database), _works(_ask_redis)
    status = "ok" if database and redis else "degraded" if database else "down"
    return JsonResponse({"status": status, "database": database, "redis": redis}, status=200 if database else 503)


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _ask_redis() -> None:
    cache.get("health")


def _works(check: Callable[[], None]) -> bool:
    try:
        check()
    except Exception:
        log.warning("health.check_failed", check=check.__name__, exc_info=True)
        return False
    return True
