"""The only code that talks to ISBNdb.

A request goes out with a call that was dispatched for it (`Spending.dispatch`), and `DispatchedCall.claim` gives that
right once, so that neither a retry nor a redirect can go out uncounted. The contract is ISBNdb's OpenAPI file,
https://isbndb.com/isbndb-api-documentation-v2; what it leaves out is in docs/isbndb.md.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from math import inf
from random import uniform
from threading import Lock
from typing import TypeVar

import httpx2
import msgspec
import stamina
import structlog
from django.conf import settings

from enrichment.decoding import Answer, UndecodableAnswer, decode_books
from enrichment.exceptions import (
    IsbndbError,
    IsbndbNotFound,
    IsbndbPageTooLarge,
    IsbndbRefused,
    IsbndbTimeout,
    IsbndbUnavailable,
    IsbndbUndecodable,
)
from quota import services as quota
from quota.exceptions import QuotaError, QuotaRefused, SendWindowMissed
from quota.models import Call
from quota.services import DispatchedCall
from quota.spending import Spending

log = structlog.get_logger(__name__)

ATTEMPTS = 3
LONGEST_RETRY_AFTER = 20.0  # seconds; a request that is asked to wait longer is given up
TOO_FAST_PAUSE = 1.0  # seconds, when ISBNdb does not say how long
LONGEST_PAUSE = 900.0  # seconds for which ISBNdb can stop the whole fleet with one answer
LARGEST_ANSWER = 32 * 1024 * 1024  # bytes; ISBNdb's own ceiling is 6 MB
_MAKING_CLIENT = Lock()

Decoded = TypeVar("Decoded")


@dataclass(frozen=True)
class KeyUsage:
    """ISBNdb's own counter, in calls."""

    total: int
    spent: int
    left: int


@dataclass(frozen=True)
class _Reply:
    status: int
    headers: httpx2.Headers
    body: bytes

    def text(self) -> str:
        """The beginning of the body, fit for the journal: without NUL, which PostgreSQL does not store, and our key."""
        return _without_key(self.body[:1000].decode(errors="replace").replace("\0", ""))

    def retry_after(self) -> float | None:
        """Seconds, LONGEST_PAUSE at the most, from either form of the header (RFC 9110, section 10.2.3)."""
        value = self.headers.get("Retry-After", "").strip()
        if value.isascii() and value.isdigit():
            return min(float(value), LONGEST_PAUSE)
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        return min(max(0.0, seconds), LONGEST_PAUSE)


def fetch_books(isbns: Sequence[str], spending: Spending) -> Answer:
    """Asks for up to ISBNDB_BATCH_SIZE ISBN-13s in one call; those that ISBNdb does not know are missing.

    Raises an IsbndbError, or what `Spending.dispatch` raises.
    """

    def decode(body: bytes) -> Answer:
        return decode_books(body, key="data")

    return ask(
        spending,
        httpx2.Request("POST", url("/books"), json={"isbns": list(isbns)}),
        isbns_asked=len(isbns),
        decode=decode,
        count=lambda answer: len(answer.books),
    )


def fetch_key_usage(spending: Spending) -> KeyUsage:
    """Asks for ISBNdb's own counter, in one call. Raises as `fetch_books` does."""

    class Answered(msgspec.Struct):
        plan_limit: KeyUsage

    return ask(
        spending,
        httpx2.Request("GET", url("/key")),
        decode=lambda body: msgspec.json.decode(body, type=Answered).plan_limit,
    )


def ask(
    spending: Spending,
    request: httpx2.Request,
    *,
    decode: Callable[[bytes], Decoded],
    isbns_asked: int | None = None,
    count: Callable[[Decoded], int] | None = None,
    may_be_too_large: bool = False,
) -> Decoded:
    """Sends the request, up to ATTEMPTS times, each with a call of its own; for the fetchers of this package.

    `decode` makes the result of a body, `count` says how many books are in it. `may_be_too_large`: a status 500 is
    taken for "ask for less", and raised as IsbndbPageTooLarge at once.
    """
    if not settings.ISBNDB_API_KEY:
        raise IsbndbRefused("ISBNDB_API_KEY is not set: nothing was sent.")
    failure: IsbndbUnavailable | None = None
    for attempt in stamina.retry_context(on=_pause_before_retry, attempts=ATTEMPTS, timeout=None, wait_initial=0.5):
        with attempt:
            if failure:
                try:
                    spending.extend()
                except QuotaError as refusal:
                    log.warning("isbndb.no_retry", refusal=str(refusal))
                    failure.retry_after = inf  # not to be tried again
                    raise failure from refusal
            call = spending.dispatch(request.method, request.url.raw_path.decode(), isbns_asked=isbns_asked)
            try:
                return _send(call, request, decode, count)
            except IsbndbUnavailable as error:
                if may_be_too_large and error.status == 500:
                    raise IsbndbPageTooLarge("ISBNdb failed with status 500: the page may be too large.") from error
                failure = error
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _pause_before_retry(error: Exception) -> bool | float:
    """Stamina's back-off hook: whether to try again, or after how many seconds."""
    if not isinstance(error, IsbndbUnavailable):
        return False
    if error.retry_after is None:
        return True
    return error.retry_after + uniform(0, 1) if error.retry_after <= LONGEST_RETRY_AFTER else False  # noqa: S311


def _send(
    call: DispatchedCall,
    request: httpx2.Request,
    decode: Callable[[bytes], Decoded],
    count: Callable[[Decoded], int] | None,
) -> Decoded:
    try:
        call.claim()
    except SendWindowMissed as error:
        quota.record(call, Call.Outcome.NOT_SENT, error=str(error))
        raise QuotaRefused(limit="midnight", asked=1, free=0, retry_at=_after_midnight(call)) from error

    started = time.monotonic()

    def record(outcome: Call.Outcome, *, status: int | None = None, found: int | None = None, error: str = "") -> None:
        latency_ms = round(1000 * (time.monotonic() - started))
        quota.record(call, outcome, status=status, latency_ms=latency_ms, isbns_found=found, error=error)
        log.info(
            "isbndb.call", call=call.id, path=request.url.path, outcome=outcome.value, status=status, ms=latency_ms
        )

    try:
        reply = _exchange(request, call.send_before)
    except httpx2.TimeoutException as error:
        record(Call.Outcome.TIMEOUT, error=repr(error))
        raise IsbndbTimeout(f"ISBNdb gave no answer within {settings.ISBNDB_TIMEOUT_SECONDS} s.") from error
    except (httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ProxyError) as error:
        record(Call.Outcome.CONNECTION_FAILED, error=_without_key(repr(error)))
        raise IsbndbUnavailable("The connection to ISBNdb failed.") from error
    except httpx2.RequestError as error:  # an answer that can't be unpacked, a request that can't be sent
        record(Call.Outcome.UNDECODABLE, error=_without_key(repr(error)))
        raise IsbndbUndecodable("ISBNdb's answer could not be read.") from error

    if reply.status == 200:
        try:
            decoded = decode(reply.body)
        except (UndecodableAnswer, msgspec.MsgspecError) as error:
            record(Call.Outcome.UNDECODABLE, status=200, error=f"{_without_key(str(error))}: {reply.text()}")
            raise IsbndbUndecodable(_without_key(f"ISBNdb's answer could not be read: {error}")) from error
        record(Call.Outcome.OK, status=200, found=count(decoded) if count else None)
        return decoded

    outcome, failure = _judge(call, reply)
    record(outcome, status=reply.status, error=reply.text())
    if outcome is Call.Outcome.QUOTA_EXCEEDED:
        quota.close_day(call, reason=reply.text())
    elif outcome is Call.Outcome.TOO_FAST:
        quota.slow_down(call, seconds=reply.retry_after() or TOO_FAST_PAUSE)
    raise failure


def _judge(  # noqa: PLR0911 (one case after the other)
    call: DispatchedCall, reply: _Reply
) -> tuple[Call.Outcome, IsbndbError | QuotaRefused]:
    """What an answer other than 200 means, and what to raise for it."""
    if _is_daily_limit(reply):
        refusal = QuotaRefused(limit="day_closed", asked=1, free=0, retry_at=_after_midnight(call))
        return Call.Outcome.QUOTA_EXCEEDED, refusal
    if reply.status == 429:
        pause = reply.retry_after() or TOO_FAST_PAUSE
        return Call.Outcome.TOO_FAST, IsbndbUnavailable("ISBNdb finds us too fast.", retry_after=pause)
    if reply.status >= 500:
        message = f"ISBNdb failed with status {reply.status}."
        failure = IsbndbUnavailable(message, retry_after=reply.retry_after(), status=reply.status)
        return Call.Outcome.SERVER_ERROR, failure
    if reply.status == 404:
        return Call.Outcome.NOT_FOUND, IsbndbNotFound("ISBNdb knows nothing of that name.")
    if reply.status in {401, 403}:
        return Call.Outcome.REFUSED, IsbndbRefused(f"ISBNdb does not accept our key (status {reply.status}).")
    if 300 <= reply.status < 400:
        target = _without_key(reply.headers.get("Location", "nowhere"))
        return Call.Outcome.REFUSED, IsbndbRefused(f"ISBNdb redirects to {target}: check ISBNDB_BASE_URL.")
    return Call.Outcome.REFUSED, IsbndbRefused(f"ISBNdb refused the request with status {reply.status}.")


def _is_daily_limit(reply: _Reply) -> bool:
    """ISBNdb says "Daily quota exceeded" with 429 or, on some plans, 403; "Per minute quota exceeded" is the pace."""
    words = reply.text().lower()
    return (reply.status in {403, 429} and "daily quota" in words) or (
        reply.status == 403 and "quota exceeded" in words and "per minute" not in words
    )


def _after_midnight(call: DispatchedCall) -> datetime:
    return datetime.combine(call.day + timedelta(days=1), datetime.min.time(), tzinfo=UTC)


def _exchange(request: httpx2.Request, send_before: float) -> _Reply:
    """One request, one answer: its body within ISBNDB_TIMEOUT_SECONDS, and no pause before it longer than that.

    The connection must stand before `send_before` (of the monotonic clock), where the call's day ends: ISBNdb would
    put what arrives later down to the next.
    """
    started = time.monotonic()
    deadline = started + settings.ISBNDB_TIMEOUT_SECONDS
    # Waiting for the pool, connecting and TLS have a limit each.
    connect = max(0.001, min(settings.ISBNDB_TIMEOUT_SECONDS, (send_before - started) / 3))
    limits = httpx2.Timeout(settings.ISBNDB_TIMEOUT_SECONDS, connect=connect, pool=connect)
    request.headers["Authorization"] = settings.ISBNDB_API_KEY
    request.extensions["timeout"] = limits.as_dict()
    reply = _client().send(request, stream=True, follow_redirects=False)
    try:
        body = bytearray()
        for chunk in reply.iter_bytes():
            body += chunk
            if time.monotonic() > deadline:
                raise httpx2.ReadTimeout("the answer came too slowly", request=request)
            if len(body) > LARGEST_ANSWER:
                raise httpx2.ReadError(f"the answer is larger than {LARGEST_ANSWER} bytes", request=request)
    finally:
        reply.close()
    return _Reply(reply.status_code, reply.headers, bytes(body))


def _without_key(text: str) -> str:
    """ISBNdb may repeat our key; neither the journal nor the log nor our answers may."""
    return text.replace(settings.ISBNDB_API_KEY, "<key>")


def _client() -> httpx2.Client:
    """The process's connection pool."""
    with _MAKING_CLIENT:  # lest threads that start together make one each
        return _make_client()


@lru_cache(maxsize=1)
def _make_client() -> httpx2.Client:
    return httpx2.Client(
        headers={"User-Agent": "alexandria"},
        trust_env=False,  # the key goes to ISBNdb, through no proxy that happens to be in the environment
        limits=httpx2.Limits(max_connections=20, max_keepalive_connections=10, keepalive_expiry=30),
    )


def close_connections() -> None:
    """Ends the process's connections to ISBNdb; the next request makes new ones."""
    _client().close()
    _make_client.cache_clear()


def url(path: str) -> str:
    """The address of a path of ISBNdb."""
    return f"{settings.ISBNDB_BASE_URL}{path}"
