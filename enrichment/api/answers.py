"""The parts that the answers of all endpoints that spend calls share."""

import time
from collections.abc import Mapping
from typing import Any

import structlog
from rest_framework.response import Response

from quota.api import ratelimit_headers
from quota.exceptions import QuotaUnavailable
from quota.selectors.status import QuotaStatus, get_status
from quota.serializers import QuotaStatusSerializer

log = structlog.get_logger(__name__)

VARY = {"Vary": "Prefer"}
"""For endpoints that accept `Prefer: respond-async`."""


def current_quota() -> QuotaStatus | None:
    """Today's quota for an answer whose work is done; None when it cannot be read."""
    try:
        return get_status()
    except QuotaUnavailable:
        log.exception("answer.without_quota")
        return None


def spending_answer(result: dict[str, Any], *, started: float, headers: Mapping[str, str] = VARY) -> Response:
    """Answers with the figures of `result`, `duration_ms` since `started` (monotonic clock), and the current quota.

    When the quota cannot be read, it and its headers are left out, because the work is done and its calls are spent.
    """
    status = current_quota()
    answer = {
        **result,
        "duration_ms": round(1000 * (time.monotonic() - started)),
        "quota": QuotaStatusSerializer(status).data if status else None,
    }
    return Response(answer, headers={**headers, **(ratelimit_headers(status) if status else {})})
