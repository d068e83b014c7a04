"""HTTP connections with deadlines: a request ends in time even when its answer arrives very slowly.

httpx2 starts each time-out again with every read, and headers can arrive one byte at a time. Here the time-outs
`connect`, `read` and `write` of a request (its extension `timeout`) are times of the monotonic clock, at which the
connection stops waiting. `pool` stays a number of seconds.
"""

import ssl
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import httpcore2
import httpx2
from django.conf import settings


def trusted_certificates() -> ssl.SSLContext:
    """Accepts the servers that the certificates of this machine vouch for, and those that SSL_CERT_FILE does."""
    context = httpx2.create_ssl_context(trust_env=False)
    if settings.SSL_CERT_FILE:
        context.load_verify_locations(settings.SSL_CERT_FILE)
    return context


def certificate_error(error: BaseException) -> str:
    """What is wrong with the certificate of a server, if this is why a request failed. Else ""."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {cause.verify_message} (SSL_CERT_FILE can name another CA)"
        cause = cause.__cause__ or cause.__context__
    return ""


class DeadlineTransport(httpx2.HTTPTransport):
    """A pool of such connections. It uses no proxy, so that only ISBNdb gets the key.

    `addresses`: IP addresses to try in order, instead of looking up the host of the URL. The certificate must still be
    for the name of the host.
    """

    def __init__(self, addresses: Sequence[str] = ()) -> None:
        super().__init__()
        self._pool = httpcore2.ConnectionPool(
            ssl_context=trusted_certificates(),
            max_connections=100,  # more than a fleet at the pace has under way: a wait for one would waste a paid call
            max_keepalive_connections=20,
            keepalive_expiry=30,
            network_backend=_Backend(addresses),
        )


class _Backend(httpcore2.NetworkBackend):
    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._real = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        *others, last = self._addresses or [host]
        for address in others:
            with suppress(httpcore2.ConnectError):
                return self._connect(address, port, timeout, local_address, socket_options)
        return self._connect(last, port, timeout, local_address, socket_options)

    def _connect(self, host: str, port: int, timeout: float | None, *rest: Any) -> httpcore2.NetworkStream:
        return _Stream(self._real.connect_tcp(host, port, _seconds_until(timeout, httpcore2.ConnectTimeout), *rest))


class _Stream(httpcore2.NetworkStream):
    def __init__(self, real: httpcore2.NetworkStream) -> None:
        self._real = real

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._real.read(max_bytes, _seconds_until(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._real.write(buffer, _seconds_until(timeout, httpcore2.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        seconds = _seconds_until(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._real.start_tls(ssl_context, server_hostname, seconds))

    def close(self) -> None:
        self._real.close()

    def get_extra_info(self, info: str) -> Any:
        return self._real.get_extra_info(info)


def _seconds_until(moment: float | None, too_late: type[Exception]) -> float | None:
    if moment is None:
        return None
    seconds = moment - time.monotonic()
    if seconds <= 0:
        raise too_late("the deadline has passed")
    return seconds
