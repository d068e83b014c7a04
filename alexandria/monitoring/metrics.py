"""`/metrics` for Prometheus: figures from the tables, and measurements of the processes on this machine."""

import hmac
import os
import time
from collections.abc import Iterable
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string
from django_prometheus.middleware import PrometheusAfterMiddleware
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from alexandria.common.timeouts import Bounded, Overdue, wait_for
from alexandria.monitoring.multiprocess import VARIABLE
from enrichment.metrics import collect_from_files
from quota.exceptions import QuotaUnavailable
from quota.metrics import gauge

log = structlog.get_logger(__name__)

MAX_DATABASE_SECONDS = 2.5
"""When the database takes longer, the scrape has only the measurements of the processes."""
PROXY_HEADERS = ("X-Forwarded-For", "Forwarded")


class RequestMetrics(PrometheusAfterMiddleware):  # type: ignore[misc]
    """The middleware of django-prometheus. Unknown HTTP methods share one label: each would be a series forever."""

    def label_metric(self, metric: Any, request: HttpRequest, response: Any = None, **labels: str) -> Any:
        if "method" in labels:
            labels["method"] = self._method(request)
        return super().label_metric(metric, request, response, **labels)


def scrape(request: HttpRequest) -> HttpResponse:
    """All metrics, in the format that the scraper asks for. 403 without permission."""
    if not _may_scrape(request):
        return HttpResponse(
            "You may not read the metrics. See METRICS_ALLOW and METRICS_TOKEN.\n", "text/plain", HTTPStatus.FORBIDDEN
        )
    registry = CollectorRegistry()
    registry.register(_Tables())
    registry.register(_Files())
    if VARIABLE in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(REGISTRY)
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), content_type=content_type)


class _Tables:
    """The figures from the tables, or the information that they cannot be read."""

    def collect(self) -> Iterable[Metric]:
        try:
            yield from wait_for(_FIGURES.start(), until=time.monotonic() + MAX_DATABASE_SECONDS)
            is_up = 1
        except (Overdue, QuotaUnavailable, DatabaseError, InterfaceError) as error:
            log.warning("metrics.no_database", error=f"{type(error).__name__}: {error}")
            is_up = 0
        yield gauge("database_up", "1 when the figures from the tables can be read, else 0.", is_up)


class _Files:
    """The figures from the files of this machine."""

    def collect(self) -> Iterable[Metric]:
        return collect_from_files()


def _figures() -> list[Metric]:
    """The metrics of every app, by the functions that METRICS_COLLECTORS names."""
    return [metric for path in settings.METRICS_COLLECTORS for metric in import_string(path)()]


_FIGURES = Bounded(_figures)


def _may_scrape(request: HttpRequest) -> bool:
    """By the token or by the IP address of the connection. A proxy hides the client's address, so it never counts."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if settings.METRICS_TOKEN and scheme.lower() == "bearer":
        return hmac.compare_digest(token.strip().encode(), settings.METRICS_TOKEN.encode())
    if any(header in request.headers for header in PROXY_HEADERS):
        return False
    try:
        address = ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:  # a Unix socket has no IP address
        return False
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    return any(address in network for network in settings.METRICS_NETWORKS)
