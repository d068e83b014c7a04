"""What the answers of all endpoints that spend calls have in common."""

import time
from typing import Any

from rest_framework.response import Response

from quota.api import ratelimit_headers
from quota.selectors import get_status
from quota.serializers import QuotaStatusSerializer

VARY = {"Vary": "Prefer"}
"""All of them take `Prefer: respond-async`."""


def spending_answer(result: dict[str, Any], *, started: float) -> Response:
    """The figures of `result`, `duration_ms` since `started` (on the monotonic clock), and the quota as it is now."""
    status = get_status()
    answer = {
        **result,
        "duration_ms": round(1000 * (time.monotonic() - started)),
        "quota": QuotaStatusSerializer(status).data,
    }
    return Response(answer, headers=ratelimit_headers(status) | VARY)
