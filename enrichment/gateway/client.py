"""The only code that talks to ISBNdb.

Every request needs a dispatch (`Spender.dispatch`). `DispatchedCall.claim` allows one request for each dispatch, so
no retry or redirect can go out without being counted. The contract is ISBNdb's OpenAPI file,
https://isbndb.com/isbndb-api-documentation-v2; docs/isbndb.md has what the file leaves out.
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
    IsbndbKeyRefused,
    IsbndbPageTooLarge,
    IsbndbRefused,
    IsbndbTimeout,
    IsbndbUnavailable,
    IsbndbUndecodable,
)
from enrichment.gateway.replies import Reply, after_midnight, day_over, judge, without_key
from enrichment.gateway.settling import MAX_WAIT_SECONDS, is_day_over, is_unclear
from quota.exceptions import QuotaError, QuotaRefused, QuotaUnavailable, SendWindowMissed
from quota.models import Call, Reconciliation
from quota.prices import RequestKind
from quota.services import corrections
from quota.services import reservations as quota
from quota.services.reservations import LEASE, DispatchedCall
from quota.spending import MAX_PACE_WAIT, Spender

log = structlog.get_logger(__name__)

KEY_PATH = "/key"
ATTEMPTS = 3
MAX_RETRY_AFTER_SECONDS = 20.0  # after a longer Retry-After, the request is not retried
MAX_CONNECT_SECONDS = 5.0  # until there is a connection, including the wait for a free one
MAX_ANSWER_BYTES = 32 * 1024 * 1024  # ISBNdb's own limit is 6 MB
MIN_PAGE_SIZE = 125  # books; a smaller answer cannot be too large, so its failure has another cause
SMALLER_PAGE_PAUSE_SECONDS = 1.0  # before asking for less, because the failure may have had another cause
_MAKING_CLIENT = Lock()
_CONNECTION_ERRORS = (
    httpx2.ConnectTimeout,  # with this and the next, nothing was sent
    httpx2.PoolTimeout,
    httpx2.NetworkError,
    httpx2.RemoteProtocolError,
    httpx2.ProxyError,
)

# The longest time between two dispatches of an operation, or between a dispatch and an extension. No lease may expire
# in between.
_MAX_TURN = MAX_PACE_WAIT + timedelta(seconds=settings.ISBNDB_TIMEOUT_SECONDS + MAX_RETRY_AFTER_SECONDS + 1)
if _MAX_TURN >= LEASE:
    raise ImproperlyConfigured(f"The lease of a reservation ({LEASE}) must be longer than {_MAX_TURN}.")

# An unclear answer is settled before the pause, which it shortens by the time it takes.
_MAX_SETTLING = MAX_PACE_WAIT + timedelta(seconds=MAX_WAIT_SECONDS + settings.ISBNDB_TIMEOUT_SECONDS)

MAX_ASK_TIME = ATTEMPTS * (_MAX_TURN + _MAX_SETTLING)
"""The longest time that `ask` can take, with all retries, waits for the pace, pauses and unclear answers."""

Decoded = TypeVar("Decoded")


@dataclass(frozen=True)
class KeyUsage:
    """ISBNdb's own counter, in calls."""

    total: int
    spent: int
    left: int


def fetch_books(isbns: Sequence[str], spender: Spender) -> Answer:
    """Asks ISBNdb for up to ISBNDB_BATCH_SIZE ISBN-13s at once. The answer lacks those that ISBNdb does not know.

    Drops books that were not asked for. Raises IsbndbPageTooLarge (ask for fewer), another IsbndbError, or what
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
        RequestKind.BATCH,
        new_request("POST", "/books", json={"isbns": list(isbns)}),
        isbns_asked=len(isbns),
        decode=decode,
        count=lambda answer: len(answer.books),
        may_be_too_large=len(isbns) > MIN_PAGE_SIZE,
    )


def fetch_key_usage(spender: Spender) -> KeyUsage:
    """Asks ISBNdb for its own counter, in one request. Raises what `fetch_books` raises."""
    return ask(spender, RequestKind.KEY, new_request("GET", KEY_PATH), decode=_decode_key_usage)


def _decode_key_usage(body: bytes) -> KeyUsage:
    class Answered(msgspec.Struct):
        plan_limit: KeyUsage

    return msgspec.json.decode(body, type=Answered).plan_limit


def ask(
    spender: Spender,
    kind: RequestKind,
    request: httpx2.Request,
    *,
    decode: Callable[[bytes], Decoded],
    isbns_asked: int | None = None,
    count: Callable[[Decoded], int] | None = None,
    may_be_too_large: bool = False,
) -> Decoded:
    """Sends the request up to ATTEMPTS times. Each attempt spends its price. For the gateway's fetchers only.

    `kind`: for the price. `decode` turns a body into the result; `count` returns its number of books.
    `may_be_too_large`: a status 500 means "ask for less", and raises IsbndbPageTooLarge after
    SMALLER_PAGE_PAUSE_SECONDS.
    """
    if not settings.ISBNDB_API_KEY:
        raise IsbndbRefused("ISBNDB_API_KEY is not set, so nothing was sent. Set it to ISBNdb's key.")
    failure: IsbndbUnavailable | None = None
    price = 0
    for attempt in stamina.retry_context(on=_pause_before_retry, attempts=ATTEMPTS, timeout=None, wait_initial=0.5):
        with attempt:
            if failure:
                try:
                    spender.extend(price)
                except QuotaError as refusal:
                    # Reserved calls are left, and the retry takes them. The operation reserves others in their place
                    # later, or ends with what it has by then.
                    if not (isinstance(refusal, QuotaRefused) and spender.left >= price):
                        log.warning("isbndb.no_retry", refusal=str(refusal))
                        failure.given_up = True
                        raise failure from refusal
            call = spender.dispatch(kind, request.method, request.url.raw_path.decode(), isbns_asked=isbns_asked)
            price = call.price
            try:
                return _send(call, request, decode, count, failure_of=partial(_failure_of, spender, kind, call))
            except IsbndbUnavailable as error:
                if may_be_too_large and error.status == 500:
                    quota.sleep_until(time.monotonic() + SMALLER_PAGE_PAUSE_SECONDS)
                    raise IsbndbPageTooLarge("ISBNdb failed with status 500: the page may be too large.") from error
                failure = error
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _pause_before_retry(error: Exception) -> bool | float:
    """Stamina's back-off hook: whether to retry, or after how many seconds."""
    if not isinstance(error, IsbndbUnavailable) or error.given_up:
        return False
    if error.retry_after is None:
        return True
    return error.retry_after + uniform(0, 1) if error.retry_after <= MAX_RETRY_AFTER_SECONDS else False  # noqa: S311


def _send(
    call: DispatchedCall,
    request: httpx2.Request,
    decode: Callable[[bytes], Decoded],
    count: Callable[[Decoded], int] | None = None,
    *,
    failure_of: Callable[[Reply, Callable[..., None]], Exception],
) -> Decoded:
    """Sends the request, records the outcome, and returns the decoded answer or raises what went wrong."""
    record = partial(_record, call, request.url.path)
    try:
        call.claim()
    except SendWindowMissed as error:
        record(Call.Outcome.NOT_SENT, error=str(error))
        raise QuotaRefused(limit="midnight", asked=1, free=0, retry_at=after_midnight(call)) from error

    record = partial(record, started=time.monotonic())
    try:
        reply = _exchange(request, call.send_before)
    except _CONNECTION_ERRORS as error:
        record(Call.Outcome.CONNECTION_FAILED, error=without_key(repr(error)))
        raise IsbndbUnavailable("The connection to ISBNdb failed.") from error
    except httpx2.TimeoutException as error:
        record(Call.Outcome.TIMEOUT, error=repr(error))
        raise IsbndbTimeout(f"ISBNdb did not answer within {settings.ISBNDB_TIMEOUT_SECONDS} s.") from error
    except httpx2.RequestError as error:  # for example an answer that cannot be decompressed
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

    raise failure_of(reply, partial(record, ended=time.monotonic(), status=reply.status))


def _failure_of(
    spender: Spender, kind: RequestKind, call: DispatchedCall, reply: Reply, record: Callable[..., None]
) -> Exception:
    """The exception for an answer other than 200. Tells all workers what the answer means for them, and records it.

    Raises what `is_day_over` raises.
    """
    record, waited = partial(record, error=reply.text()), 0.0
    if is_unclear(kind, call, reply):
        answered_at = time.monotonic()
        record(Call.Outcome.UNCLEAR)
        try:
            is_over = is_day_over(call, ask_counter=partial(_ask_counter, spender))
        except IsbndbKeyRefused:
            record(Call.Outcome.REFUSED)
            raise
        if is_over:
            outcome, refusal = day_over(call)
            record(outcome)
            return refusal
        waited = time.monotonic() - answered_at
    outcome, failure = judge(call, reply, waited=waited)
    if outcome is Call.Outcome.QUOTA_EXCEEDED:  # other workers need this first; the journal can wait
        quota.close_day(call, reason=f"ISBNdb said so, with status {reply.status}: {reply.text()[:200]}")
    elif outcome is Call.Outcome.TOO_FAST:
        quota.slow_down(call, seconds=reply.pause(waited))
    record(outcome)
    return failure


def _ask_counter(spender: Spender) -> Reconciliation:
    """Asks ISBNdb's counter once and reconciles ours with it. Raises what `ask` raises."""
    request = new_request("GET", KEY_PATH)
    call = spender.dispatch(RequestKind.KEY, request.method, request.url.raw_path.decode())
    theirs = _send(call, request, _decode_key_usage, failure_of=partial(_failure_of, spender, RequestKind.KEY, call))
    return corrections.reconcile(call, spent=theirs.spent, total=theirs.total, left=theirs.left)


def _record(
    call: DispatchedCall,
    path: str,
    outcome: Call.Outcome,
    *,
    started: float | None = None,
    ended: float | None = None,
    status: int | None = None,
    found: int | None = None,
    error: str = "",
) -> None:
    """Writes the outcome to the journal and the log.

    When the database does not answer, the row stays `unknown`, and ISBNdb's answer is still used. `started`: the
    monotonic clock when the request was sent, if it was. `ended`: the same for its answer, if that is not now.
    """
    latency_ms = None if started is None else round(1000 * ((ended or time.monotonic()) - started))
    try:
        quota.record(call, outcome, status=status, latency_ms=latency_ms, isbns_found=found, error=error)
    except QuotaUnavailable:
        log.exception("isbndb.not_recorded", call=call.id)
    log.info("isbndb.call", call=call.id, path=path, outcome=outcome.value, status=status, ms=latency_ms)


def _exchange(request: httpx2.Request, send_before: float) -> Reply:
    """Sends one request and reads the whole answer within ISBNDB_TIMEOUT_SECONDS; see alexandria/common/http.py.

    There must be a connection before `send_before` (on the monotonic clock), the end of the call's day. ISBNdb would
    charge a later request to the next day.
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
                raise httpx2.ReadError(f"the answer has more than {MAX_ANSWER_BYTES} bytes", request=request)
    finally:
        reply.close()
    return Reply(reply.status_code, reply.headers, bytes(body))


def _client() -> httpx2.Client:
    """The process's connection pool."""
    with _MAKING_CLIENT:  # otherwise threads that start together would each make one
        return _make_client()


@lru_cache(maxsize=1)
def _make_client() -> httpx2.Client:
    return httpx2.Client(headers={"User-Agent": "alexandria"}, trust_env=False, transport=DeadlineTransport())


def close_connections() -> None:
    """Closes the process's connections to ISBNdb. The next request opens new ones."""
    _client().close()
    _make_client.cache_clear()


def new_request(method: str, path: str, **content: Any) -> httpx2.Request:
    """Builds a request to a path of ISBNdb, with the client's headers. `content`: `params` or `json`."""
    return _client().build_request(method, f"{settings.ISBNDB_BASE_URL}{path}", **content)
