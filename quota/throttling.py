"""What one API key may ask of the web processes. The number of calls that it costs does not matter."""

import time
from typing import Any

import structlog
from django.conf import settings
from django.core.cache import cache
from django_redis import get_redis_connection
from prometheus_client import Counter
from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from alexandria.common.turns import name_sender, take_turn, take_turn_for_body
from quota.models import ConsumerKey

log = structlog.get_logger(__name__)

MINUTE = 60
PATIENCE = 10
"""Seconds without a new attempt after Redis did not answer: to wait for it would slow every request down."""

NOT_THROTTLED = Counter(
    "alexandria_not_throttled_requests", "Requests that were let in uncounted, because Redis did not answer."
)


class RequestsPerMinute(BaseThrottle):
    """API_REQUESTS_PER_MINUTE for each key, in minutes of the clock. 0: no limit.

    Redis counts in one atomic step, so the count is that of all processes. Without Redis no request is throttled: this
    only protects us from a client that retries in a loop, and the limits of the quota do not depend on it.
    """

    not_before = 0.0  # of the monotonic clock, for this process

    def allow_request(self, request: Request, view: Any) -> bool:
        max_requests = settings.API_REQUESTS_PER_MINUTE
        if not max_requests or not isinstance(request.auth, ConsumerKey):
            return True
        if time.monotonic() < RequestsPerMinute.not_before:
            NOT_THROTTLED.inc()
            return True
        now = time.time()
        self.seconds_left = MINUTE - now % MINUTE
        counter = cache.make_key(f"requests:{request.auth.prefix}:{int(now // MINUTE)}")
        try:
            pipeline = get_redis_connection().pipeline()
            made, _ = pipeline.incr(counter).expire(counter, 2 * MINUTE).execute()
        except RedisError as error:
            NOT_THROTTLED.inc()
            RequestsPerMinute.not_before = time.monotonic() + PATIENCE
            log.warning("api.not_throttled", error=f"{type(error).__name__}: {error}")
            return True
        return bool(made <= max_requests)

    def wait(self) -> float:
        """Seconds until the next minute."""
        return self.seconds_left


class Turns(BaseThrottle):
    """Names the key, and takes a turn for what takes long: views with `takes_long`, and long bodies.

    `spending` and `searching` take a turn on their own. Raises TooManyAtOnce.
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        if isinstance(request.auth, ConsumerKey):
            name_sender(f"key {request.auth.prefix}")
        if getattr(view, "takes_long", False):
            take_turn()
        take_turn_for_body(request.META)
        return True
