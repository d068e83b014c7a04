"""What came of a request: it is recorded in the journal and the log, and its answer is read."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic

import httpx2
import msgspec
import structlog
from django.conf import settings

from alexandria.common.http import certificate_error
from enrichment.books.decoding import UndecodableAnswer
from enrichment.exceptions import IsbndbKeyRefused, IsbndbTimeout, IsbndbUnavailable, IsbndbUndecodable
from enrichment.gateway.connection import CONNECTION_ERRORS
from enrichment.gateway.questions import Decoded, Question
from enrichment.gateway.replies import Reply, after_midnight, day_over, judge, without_key
from enrichment.gateway.settling import is_day_over, is_unclear
from quota.exceptions import QuotaRefused, QuotaUnavailable, SendWindowMissed
from quota.models import Call, Reconciliation
from quota.services import reservations as quota
from quota.services.reservations import DispatchedCall

SECONDS_AFTER_BAD_CERTIFICATE = 60.0
"""A person has to do something."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Outcome(Generic[Decoded]):
    """What came of a request for a question: ISBNdb's reply, or the exception in its place.

    `decoded`: what a reply with status 200 says, or the exception that its decoder raised.
    `started`, `ended`: the monotonic clock when it was sent and its answer had come; None if it was not sent.
    `is_settled`: its operation has asked ISBNdb's counter since then, and calls were left.
    """

    call: DispatchedCall
    question: Question[Decoded]
    result: Reply | Exception
    decoded: Decoded | Exception | None = None
    started: float | None = None
    ended: float | None = None
    is_settled: bool = False


def read(
    outcome: Outcome[Decoded],
    *,
    ask_counter: Callable[[], Reconciliation],
    slow_down: Callable[[float], None],
) -> Decoded:
    """Records the outcome, and returns the answer. Raises what went wrong, and what `is_day_over` raises.

    `ask_counter` asks ISBNdb's counter and reconciles ours with it. `slow_down` lets the fleet pause for some seconds.
    """
    question, result = outcome.question, outcome.result
    match result:
        case SendWindowMissed():
            record(outcome, Call.Outcome.NOT_SENT, error=str(result))
            retry_at = after_midnight(outcome.call)
            raise QuotaRefused(limit="midnight", asked=1, free=0, retry_at=retry_at) from result
        case _ if isinstance(result, CONNECTION_ERRORS):
            record(outcome, Call.Outcome.CONNECTION_FAILED, error=without_key(repr(result)))
            raise _no_connection(result) from result
        case httpx2.TimeoutException():
            record(outcome, Call.Outcome.TIMEOUT, error=repr(result))
            raise IsbndbTimeout(f"ISBNdb did not answer within {settings.ISBNDB_TIMEOUT_SECONDS} s.") from result
        case httpx2.RequestError():  # for example an answer that cannot be decompressed
            record(outcome, Call.Outcome.UNDECODABLE, error=without_key(repr(result)))
            raise IsbndbUndecodable("ISBNdb's answer could not be read.") from result
        case Exception():
            raise result
    if result.status != 200:
        raise _failure_of(outcome, result, ask_counter, slow_down)
    decoded = _decoded(outcome, result)
    record(outcome, Call.Outcome.OK, status=200, found=question.count(decoded) if question.count else None)
    return decoded


def _decoded(outcome: Outcome[Decoded], reply: Reply) -> Decoded:
    """What the reply says. Records and raises why it cannot be read."""
    match decoded := outcome.decoded:
        case UndecodableAnswer() | msgspec.MsgspecError():
            why = f"{without_key(str(decoded))}: {reply.text()}"
            record(outcome, Call.Outcome.UNDECODABLE, status=200, error=why)
            raise IsbndbUndecodable("ISBNdb's answer could not be read.") from decoded
        case Exception():
            raise decoded
        case None:
            raise AssertionError("unreachable: an answer is decoded where it came in")
    return decoded


def _no_connection(error: Exception) -> IsbndbUnavailable:
    message = "The connection to ISBNdb failed"
    if why := certificate_error(error):  # a retry would cost another call, and find the same certificate
        return IsbndbUnavailable(f"{message}: {why}.", retry_after=SECONDS_AFTER_BAD_CERTIFICATE)
    return IsbndbUnavailable(f"{message}.")


def record(
    outcome: Outcome[Any], word: Call.Outcome, *, status: int | None = None, found: int | None = None, error: str = ""
) -> None:
    """Writes the outcome to the journal and the log.

    When the database does not answer, the row stays `unknown`, and ISBNdb's answer is still used.
    """
    call, latency_ms = outcome.call, None
    if outcome.started is not None and outcome.ended is not None:
        latency_ms = round(1000 * (outcome.ended - outcome.started))
    try:
        quota.record(call, word, status=status, latency_ms=latency_ms, isbns_found=found, error=error)
    except QuotaUnavailable:
        log.exception("isbndb.not_recorded", call=call.id)
    log.info(
        "isbndb.call",
        call=call.id,
        reservation=str(call.reservation),
        **outcome.question.payer.log_fields,
        path=outcome.question.request.url.path,
        outcome=word.value,
        status=status,
        ms=latency_ms,
    )


def _failure_of(
    outcome: Outcome[Any],
    reply: Reply,
    ask_counter: Callable[[], Reconciliation],
    slow_down: Callable[[float], None],
) -> Exception:
    """The exception for an answer other than 200. Tells all workers what it means for them, and records it."""
    call, waited = outcome.call, 0.0
    said = partial(record, outcome, status=reply.status, error=reply.text())
    if not outcome.is_settled and is_unclear(outcome.question.kind, call, reply):
        answered_at = time.monotonic()
        said(Call.Outcome.UNCLEAR)
        try:
            is_over = is_day_over(call, ask_counter=ask_counter)
        except IsbndbKeyRefused:
            said(Call.Outcome.REFUSED)
            raise
        if is_over:
            word, refusal = day_over(call)
            said(word)
            return refusal
        waited = time.monotonic() - answered_at
    word, failure = judge(call, reply, waited=waited)
    if word is Call.Outcome.QUOTA_EXCEEDED:  # other workers need this first; the journal can wait
        quota.close_day(call, reason=f"ISBNdb said so, with status {reply.status}: {reply.text()[:200]}")
    elif word is Call.Outcome.TOO_FAST:
        slow_down(reply.pause(waited))
    said(word)
    return failure
