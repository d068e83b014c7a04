"""The only code that talks to ISBNdb.

A request goes out with a call that was dispatched for it (`Spender.dispatch`), and `DispatchedCall.claim` gives that
right once, so that neither a retry nor a redirect can go out uncounted. The contract is ISBNdb's OpenAPI file,
https://isbndb.com/isbndb-api-documentation-v2; what it leaves out is in docs/isbndb.md.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from random import uniform
from threading import Lock
from typing import Any, TypeVar

import httpx2
import msgspec
import stamina
import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from msgspec.structs import replace

from alexandria.common.http import DeadlineTransport
from enrichment.books.decoding import Answer, UndecodableAnswer, decode_books
from enrichment.exceptions import (
    IsbndbPageTooLarge,
    IsbndbRefused,
    IsbndbTimeout,
    IsbndbUnavailable,
    IsbndbUndecodable,
)
from enrichment.gateway.replies import Reply, after_midnight, judge, without_key
from quota.exceptions import QuotaError, QuotaRefused, QuotaUnavailable, SendWindowMissed
from quota.models import Call
from quota.services import reservations as quota
from quota.services.reservations import LEASE, DispatchedCall
from quota.spending import MAX_PACE_WAIT, Spender

log = structlog.get_logger(__name__)

ATTEMPTS = 3
MAX_RETRY_AFTER_SECONDS = 20.0  # seconds; a request that is asked to wait longer is given up
MAX_CONNECT_SECONDS = 5.0  # seconds until a connection stands, waiting for a free one included
MAX_ANSWER_BYTES = 32 * 1024 * 1024  # bytes; ISBNdb's own ceiling is 6 MB
MIN_PAGE_SIZE = 125  # books; a failure for so few is not for their size
SMALLER_PAGE_PAUSE_SECONDS = 1.0  # seconds before less is asked for: the failure may have been of another kind
_MAKING_CLIENT = Lock()

# From one dispatch of an operation to the next, or to the extension before it: meanwhile no lease may run out.
_MAX_TURN = MAX_PACE_WAIT + timedelta(seconds=settings.ISBNDB_TIMEOUT_SECONDS + MAX_RETRY_AFTER_SECONDS + 1)
if _MAX_TURN >= LEASE:
    raise ImproperlyConfigured(f"The lease of a reservation ({LEASE}) must be longer than {_MAX_TURN}.")

MAX_ASK_TIME = ATTEMPTS * _MAX_TURN
"""What `ask` takes at the most, with all its retries, waits for the pace and pauses."""

Decoded = TypeVar("Decoded")


@dataclass(frozen=True)
class KeyUsage:
    """ISBNdb's own counter, in calls."""

    total: int
    spent: int
    left: int


def fetch_books(isbns: Sequence[str], spender: Spender) -> Answer:
    """Asks for up to ISBNDB_BATCH_SIZE ISBN-13s in one call; those that ISBNdb does not know are missing.

    Books that it sends unasked are left out. Raises IsbndbPageTooLarge (ask for fewer), any other IsbndbError, or what
    `Spender.dispatch` raises.
    """
    wanted = frozenset(isbns)

    def decode(body: bytes) -> Answer:
        answer = decode_books(body, key="data")
        asked_for = [book for book in answer.books if book.isbn13 in wanted]
        if unasked := len(answer.books) - len(asked_for):
            log.warning("isbndb.unasked_books", books=unasked)
        return replace(answer, books=asked_for)

    return ask(
        spender,
        new_request("POST", "/books", json={"isbns": list(isbns)}),
        isbns_asked=len(isbns),
        decode=decode,
        count=lambda answer: len(answer.books),
        may_be_too_large=len(isbns) > MIN_PAGE_SIZE,
    )


def fetch_key_usage(spender: Spender) -> KeyUsage:
    """Asks for ISBNdb's own counter, in one call. Raises as `fetch_books` does."""

    class Answered(msgspec.Struct):
        plan_limit: KeyUsage

    return ask(
        spender,
        new_request("GET", "/key"),
        decode=lambda body: msgspec.json.decode(body, type=Answered).plan_limit,
    )


def ask(
    spender: Spender,
    request: httpx2.Request,
    *,
    decode: Callable[[bytes], Decoded],
    isbns_asked: int | None = None,
    count: Callable[[Decoded], int] | None = None,
    may_be_too_large: bool = False,
) -> Decoded:
    """Sends the request, up to ATTEMPTS times, each with a call of its own; for the fetchers of this package.

    `decode` makes the result of a body, `count` says how many books are in it. `may_be_too_large`: a status 500 is
    taken for "ask for less", and raised as IsbndbPageTooLarge after SMALLER_PAGE_PAUSE_SECONDS.
    """
    if not settings.ISBNDB_API_KEY:
        raise IsbndbRefused("ISBNDB_API_KEY is not set: nothing was sent.")
    failure: IsbndbUnavailable | None = None
    for attempt in stamina.retry_context(on=_pause_before_retry, attempts=ATTEMPTS, timeout=None, wait_initial=0.5):
        with attempt:
            if failure:
                try:
                    spender.extend()
                except QuotaError as refusal:
                    # A call in hand will do: the one that is then missing is set aside when its turn comes, or ends the
                    # operation with what it has.
                    if not (isinstance(refusal, QuotaRefused) and spender.left > 0):
                        log.warning("isbndb.no_retry", refusal=str(refusal))
                        failure.given_up = True
                        raise failure from refusal
            call = spender.dispatch(request.method, request.url.raw_path.decode(), isbns_asked=isbns_asked)
            try:
                return _send(call, request, decode, count)
            except IsbndbUnavailable as error:
                if may_be_too_large and error.status == 500:
                    quota.sleep_until(time.monotonic() + SMALLER_PAGE_PAUSE_SECONDS)
                    raise IsbndbPageTooLarge("ISBNdb failed with status 500: the page may be too large.") from error
                failure = error
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _pause_before_retry(error: Exception) -> bool | float:
    """Stamina's back-off hook: whether to try again, or after how many seconds."""
    if not isinstance(error, IsbndbUnavailable) or error.given_up:
        return False
    if error.retry_after is None:
        return True
    return error.retry_after + uniform(0, 1) if error.retry_after <= MAX_RETRY_AFTER_SECONDS else False  # noqa: S311


def _send(
    call: DispatchedCall,
    request: httpx2.Request,
    decode: Callable[[bytes], Decoded],
    count: Callable[[Decoded], int] | None,
) -> Decoded:
    record = partial(_record, call, request.url.path)
    try:
        call.claim()
    except SendWindowMissed as error:
        record(Call.Outcome.NOT_SENT, error=str(error))
        raise QuotaRefused(limit="midnight", asked=1, free=0, retry_at=after_midnight(call)) from error

    record = partial(record, started=time.monotonic())
    try:
        reply = _exchange(request, call.send_before)
    except (
        *(httpx2.ConnectTimeout, httpx2.PoolTimeout),  # nothing was sent
        *(httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ProxyError),
    ) as error:
        record(Call.Outcome.CONNECTION_FAILED, error=without_key(repr(error)))
        raise IsbndbUnavailable("The connection to ISBNdb failed.") from error
    except httpx2.TimeoutException as error:
        record(Call.Outcome.TIMEOUT, error=repr(error))
        raise IsbndbTimeout(f"ISBNdb gave no answer within {settings.ISBNDB_TIMEOUT_SECONDS} s.") from error
    except httpx2.RequestError as error:  # an answer that can't be unpacked, a request that can't be sent
        record(Call.Outcome.UNDECODABLE, error=without_key(repr(error)))
        raise IsbndbUndecodable("ISBNdb's answer could not be read.") from error

    if reply.status == 200:
        try:
            decoded = decode(reply.body)
        except (UndecodableAnswer, msgspec.MsgspecError) as error:
            record(Call.Outcome.UNDECODABLE, status=200, error=f"{without_key(str(error))}: {reply.text()}")
            raise IsbndbUndecodable("ISBNdb's answer could not be read.") from error
        record(Call.Outcome.OK, status=200, found=count(decoded) if count else None)
        return decoded

    outcome, failure = judge(call, reply)
    if outcome is Call.Outcome.QUOTA_EXCEEDED:  # what holds for everybody comes before the journal
        quota.close_day(call, reason=f'ISBNdb said "Daily quota exceeded" (status {reply.status}).')
    elif outcome is Call.Outcome.TOO_FAST:
        quota.slow_down(call, seconds=reply.pause())
    record(outcome, status=reply.status, error=reply.text())
    raise failure


def _record(
    call: DispatchedCall,
    path: str,
    outcome: Call.Outcome,
    *,
    started: float | None = None,
    status: int | None = None,
    found: int | None = None,
    error: str = "",
) -> None:
    """Into journal and log. Without the database the row stays `unknown`: what ISBNdb said is not to be lost for it.

    `started`: the monotonic clock when the request went out, if it did.
    """
    latency_ms = None if started is None else round(1000 * (time.monotonic() - started))
    try:
        quota.record(call, outcome, status=status, latency_ms=latency_ms, isbns_found=found, error=error)
    except QuotaUnavailable:
        log.exception("isbndb.not_recorded", call=call.id)
    log.info("isbndb.call", call=call.id, path=path, outcome=outcome.value, status=status, ms=latency_ms)


def _exchange(request: httpx2.Request, send_before: float) -> Reply:
    """One request, one answer, head and body within ISBNDB_TIMEOUT_SECONDS; see deadline.py.

    The connection must stand before `send_before` (of the monotonic clock), where the call's day ends: ISBNdb would
    put what arrives later down to the next.
    """
    started = time.monotonic()
    deadline = started + settings.ISBNDB_TIMEOUT_SECONDS
    connect_by = min(deadline, started + MAX_CONNECT_SECONDS, send_before)
    request.headers["Authorization"] = settings.ISBNDB_API_KEY
    request.extensions["timeout"] = {
        "pool": max(0.001, connect_by - started),
        "connect": connect_by,
        "read": deadline,
        "write": deadline,
    }
    reply = _client().send(request, stream=True, follow_redirects=False)
    try:
        body = bytearray()
        for chunk in reply.iter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise httpx2.ReadError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes", request=request)
    finally:
        reply.close()
    return Reply(reply.status_code, reply.headers, bytes(body))


def _client() -> httpx2.Client:
    """The process's connection pool."""
    with _MAKING_CLIENT:  # lest threads that start together make one each
        return _make_client()


@lru_cache(maxsize=1)
def _make_client() -> httpx2.Client:
    return httpx2.Client(headers={"User-Agent": "alexandria"}, trust_env=False, transport=DeadlineTransport())


def close_connections() -> None:
    """Ends the process's connections to ISBNdb; the next request makes new ones."""
    _client().close()
    _make_client.cache_clear()


def new_request(method: str, path: str, **content: Any) -> httpx2.Request:
    """A request for a path of ISBNdb, with the client's headers; `content`: `params`, `json`."""
    return _client().build_request(method, f"{settings.ISBNDB_BASE_URL}{path}", **content)
