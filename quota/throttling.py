"""How many requests an API key may make a minute, whatever they cost in calls."""

import time
from typing import Any

import structlog
from django.conf import settings
from django.core.cache import cache
from django_redis import get_redis_connection
from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from quota.models import ConsumerKey

log = structlog.get_logger(__name__)

MINUTE = 60
PATIENCE = 10
"""Seconds for which Redis is left alone when it did not answer: waiting for it would slow every request down."""


class RequestsPerMinute(BaseThrottle):
    """API_REQUESTS_PER_MINUTE by key, in minutes of the clock; 0 is no limit.

    Counted in Redis with one atomic step, so that the count is that of all processes. Without Redis nobody is
    throttled: this protects us from a client that runs wild, the quota's own limits are elsewhere.
    """

    not_before = 0.0  # of the monotonic clock, for this process

    def allow_request(self, request: Request, view: Any) -> bool:
        most = settings.API_REQUESTS_PER_MINUTE
        if not most or not isinstance(request.auth, ConsumerKey) or time.monotonic() < RequestsPerMinute.not_before:
            return True
        now = time.time()
        self.seconds_left = MINUTE - now % MINUTE
        counter = cache.make_key(f"requests:{request.auth.prefix}:{int(now // MINUTE)}")
        try:
            pipeline = get_redis_connection().pipeline()
            made, _ = pipeline.incr(counter).expire(counter, 2 * MINUTE).execute()
        except RedisError:
            RequestsPerMinute.not_before = time.monotonic() + PATIENCE
            log.warning("api.not_throttled", exc_info=True)
            return True
        return bool(made <= most)

    def wait(self) -> float:
        """Seconds until the next minute."""
        return self.seconds_left
