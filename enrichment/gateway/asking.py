"""The only code that talks to ISBNdb. It can have many requests of an operation under way at once.

Every request needs a dispatch (`Payer.dispatch`). `DispatchedCall.claim` allows one request for each dispatch, so no
retry or redirect can go out without being counted. docs/isbndb.md has what ISBNdb's OpenAPI file leaves out.

The calling thread alone talks to the database: it dispatches, records what came of each request, and hands the answers
on. Beside it, a thread for each request exchanges bytes and decodes the answer, while the calling thread waits for the
database to store another one.
"""

import gc
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, partial
from queue import Empty, SimpleQueue
from random import uniform
from threading import Event, Thread
from typing import Any, Generic

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from alexandria.common.stopping import STOPPING, EndAtOnce
from alexandria.common.text import as_people_read
from enrichment.books.aside import put_aside
from enrichment.books.decoding import Answer
from enrichment.exceptions import (
    IsbndbError,
    IsbndbKeyRefused,
    IsbndbPageTooLarge,
    IsbndbRefused,
    IsbndbUnavailable,
    IsbndbUnclear,
)
from enrichment.gateway import connection as isbndb
from enrichment.gateway.listings import RawPage
from enrichment.gateway.outcomes import Outcome, read, record
from enrichment.gateway.questions import Decoded, Exchanged, Question, key_usage
from enrichment.gateway.replies import Reply
from quota.exceptions import PaceTimeout, QuotaError, QuotaRefused, ServiceStops
from quota.models import Call, Reconciliation
from quota.prices import RequestKind
from quota.selectors.status import get_status
from quota.services import corrections
from quota.services import reservations as quota
from quota.services.reservations import LEASE, NAP, DispatchedCall
from quota.spending import MAX_PACE_WAIT, Payer

log = structlog.get_logger(__name__)

MAX_RETRY_AFTER_SECONDS = 20.0  # after a longer Retry-After, the request is not retried
FIRST_RETRY_PAUSE_SECONDS = 0.5  # doubles with each retry, and is up to three times as long by chance
SMALLER_PAGE_PAUSE_SECONDS = 1.0  # before asking for less, because the failure may have had another cause

MAX_UNDER_WAY = 16
"""Requests of an operation that are under way at once, at most. Answers that wait to be stored count, so an operation
holds at most 16 of them: about 100 MB with the 6 MB that an answer can have, and never more than 16 times
MAX_ANSWER_BYTES."""

MIN_GAP = 0.96
"""Of the pace: so near may two requests of a process come when the first is late. The pace has 5 per cent to spare."""

MAX_LATE_SECONDS = 0.04
"""A request that is later than that does not go out, but gets another send time. The pace has 0.05 seconds to spare in
each second: after a later one, four could arrive within a second."""

# The longest time between two dispatches of a question, or between a dispatch and an extension. No lease may expire
# in between.
_MAX_TURN = MAX_PACE_WAIT + timedelta(seconds=settings.ISBNDB_TIMEOUT_SECONDS + MAX_RETRY_AFTER_SECONDS + 1)
if _MAX_TURN >= LEASE:
    raise ImproperlyConfigured(f"The lease of a reservation ({LEASE}) must be longer than {_MAX_TURN}.")


def ask(question: Question[Decoded]) -> Decoded:
    """Asks one question and returns the answer. Raises its failure, an IsbndbError, and what `ask_each` raises."""
    _, answer = _only(question)
    return answer


def ask_each(
    next_question: Callable[[], Question[Decoded] | None],
) -> Generator[Exchanged[Decoded], None, None]:
    """Asks many questions, several at the same time, and hands on each as soon as it is over, in any order.

    `next_question` is called whenever there is room for one more. It returns None when there is nothing to ask for now,
    and is called again after the next answer; the iteration ends when nothing is under way either.

    The fleet's pace decides when a request is sent. So many are under way as it asks for: pace x latency, plus one, by
    the slowest of the last answers of that kind; at most MAX_UNDER_WAY. A question that fails is asked again up to its
    number of attempts, and until then no other one begins. Its failure at last does not stop the others, but until
    something is answered they are not asked again.

    What concerns every question stops the iteration: the quota refuses a dispatch, ISBNdb's day is over, it rejects our
    key, or refuses without saying why. Then nothing more is sent. What is under way still comes in and is handed on,
    and then that exception is raised. Questions that were not handed on are not answered, so ask for them again later.

    The loop must not end while answers are under way: they are paid for. To stop early, let `next_question` return
    None and go on. Use it in `contextlib.closing`: when an exception ends the loop, what is under way is then put aside
    at once, and not when Python deletes the generator.
    """
    return _results(next_question)


def _results(
    next_question: Callable[[], Question[Decoded] | None], *, ends_payers: bool = True
) -> Generator[Exchanged[Decoded], None, None]:
    if not settings.ISBNDB_API_KEY:
        raise IsbndbRefused("ISBNDB_API_KEY is not set, so nothing was sent. Set it to ISBNdb's key.")
    _freeze_what_is_loaded()
    pace = get_status().pace.total_seconds()
    yield from _Asking(next_question, pace=pace, ends_payers=ends_payers).results()


@cache
def _freeze_what_is_loaded() -> None:
    """Keeps Python's garbage collector off what the process has loaded by now.

    It would stop all threads for 0.1 seconds each time that it looks through everything, and a request would miss its
    send time: MAX_LATE_SECONDS is less.
    """
    gc.collect()
    gc.freeze()


@dataclass(eq=False)
class _Attempt(Generic[Decoded]):
    """A question that is not over, and its newest request.

    `result`: the reply, or an exception in its place; None: its send time was missed, and it was not sent. `decoded`:
    what the reply says, or why it cannot be read.
    """

    question: Question[Decoded]
    number: int = 0  # requests so far
    not_before: float = 0.0  # on the monotonic clock, as all times here
    wait_until: float = math.inf  # then the wait for the pace is over
    failure: IsbndbUnavailable | None = None  # of the request before
    price: int = 0  # of the request before
    call: DispatchedCall | None = None
    started: float | None = None
    ended: float | None = None
    result: Reply | Exception | None = None
    decoded: Decoded | Exception | None = None
    is_over: Event = field(default_factory=Event)  # set: nothing of the above changes any more

    @property
    def is_trouble(self) -> bool:
        """Whether ISBNdb has failed to answer the request before. That it came too fast is no failure of ISBNdb."""
        return self.failure is not None and self.failure.status != 429


_LATENCIES: dict[RequestKind, deque[float]] = {kind: deque(maxlen=8) for kind in RequestKind}
"""Seconds from sending a request to taking its answer, of the last ones of this process."""


@dataclass
class _Asking(Generic[Decoded]):
    """The state of one `ask_each`."""

    next_question: Callable[[], Question[Decoded] | None]
    pace: float  # seconds between two requests of the fleet
    ends_payers: bool = True  # False: they pay for a question of another `ask_each` too
    pending: _Attempt[Decoded] | None = None  # the next question, for which the pace has had no send time yet
    retries: deque[_Attempt[Decoded]] = field(default_factory=deque)
    held_back: deque[_Attempt[Decoded]] = field(default_factory=deque)  # dispatched, and not sent in time
    under_way: set[_Attempt[Decoded]] = field(default_factory=set)
    came: SimpleQueue[_Attempt[Decoded]] = field(default_factory=SimpleQueue)
    halt: Event = field(default_factory=Event)  # set: what is not sent yet is not sent now
    not_before: float = 0.0
    is_down: bool = False  # a question has used up its attempts, and nothing was answered since: there are no retries
    counter_asked_at: float = -math.inf
    sends_nothing: bool = False
    stopped_by: Exception | None = None

    def results(self) -> Iterator[Exchanged[Decoded]]:
        try:
            while (look_again := self._send_next()) is not None or self.under_way:
                if (attempt := self._wait(look_again)) is None:
                    continue
                exchanged = self._judge(attempt)
                if not any(attempt in waiting for waiting in (self.under_way, self.retries, self.held_back)):
                    self._end_payer(attempt)
                if exchanged is not None:
                    yield exchanged
        except BaseException as error:  # also when the caller has ended the loop, or a person the process
            reasons = (error, error.__context__)  # what ended the caller is the context of a GeneratorExit
            self._record_what_is_under_way(at_once=any(isinstance(reason, EndAtOnce) for reason in reasons))
            raise
        finally:
            for attempt in (*self.under_way, *self.retries, *self.held_back, self.pending):
                if attempt is not None:
                    self._end_payer(attempt)
        if self.stopped_by is not None:
            raise self.stopped_by

    def _send_next(self) -> float | None:
        """Sends the next request, if it can be sent now.

        Returns when there may be another one to send; None: not before an answer has come.
        """
        if self.held_back:
            return self._send_held_back(self.held_back[0])
        attempt = self._next_attempt()
        return None if attempt is None else self._dispatch(attempt)

    def _dispatch(self, attempt: _Attempt[Decoded]) -> float | None:
        """Spends the price of the request and sends it; returns what `_send_next` does."""
        now, question = time.monotonic(), attempt.question
        if now < max(attempt.not_before, self.not_before):
            return max(attempt.not_before, self.not_before)
        if attempt.wait_until == math.inf:
            attempt.wait_until = now + MAX_PACE_WAIT.total_seconds()
            if attempt.failure and not self._extend(attempt, attempt.failure):
                return now
        request = question.request
        try:
            answer = question.payer.dispatch(
                question.kind, request.method, request.url.raw_path.decode(), isbns_asked=question.isbns_asked
            )
            if isinstance(answer, timedelta):
                look_again = time.monotonic() + answer.total_seconds()
                if look_again > attempt.wait_until:
                    self._stop(_no_send_time())
                return look_again if self.stopped_by is None else None
        except Exception as error:  # noqa: BLE001 (raised when what is under way has come in)
            self._stop(error)
            return None
        self._take_out(attempt)
        attempt.call, attempt.price, attempt.number = answer, answer.price, attempt.number + 1
        self._send(attempt)
        return now

    def _next_attempt(self) -> _Attempt[Decoded] | None:
        """The attempt to send next. While one of a failed question is due or under way, no other question begins."""
        if self.stopped_by is not None or any(attempt.is_trouble for attempt in self.under_way):
            return None
        if self.retries:
            return self.retries[0]
        if STOPPING.is_set():
            self._stop(ServiceStops("The service stops. Ask again: another process answers."))
            return None
        try:
            if self.pending is None and self._has_room() and (question := self.next_question()) is not None:
                self.pending = _Attempt(question)
        except Exception as error:  # noqa: BLE001 (as in `_dispatch`)
            self._stop(error)
        return self.pending

    def _has_room(self) -> bool:
        if not self.under_way:
            return True
        latencies = _LATENCIES[next(iter(self.under_way)).question.kind]
        enough = math.ceil(max(latencies) / self.pace) + 1 if latencies else MAX_UNDER_WAY
        return len(self.under_way) < min(enough, MAX_UNDER_WAY)

    def _take_out(self, attempt: _Attempt[Decoded]) -> None:
        if attempt is self.pending:
            self.pending = None
            return
        self.retries.remove(attempt)
        if self.pending is not None:
            self.pending.wait_until = math.inf  # it has waited for the retry, not for the pace

    def _extend(self, attempt: _Attempt[Decoded], failure: IsbndbUnavailable) -> bool:
        """Reserves the price of a retry; False when there is no call for it, and the failure is final."""
        payer = attempt.question.payer
        try:
            payer.extend(attempt.price)
        except QuotaError as refusal:
            # Reserved calls are left, and the retry takes them. The operation reserves others in their place later, or
            # ends with what it has by then.
            if not (isinstance(refusal, QuotaRefused) and payer.left >= attempt.price):
                log.warning("isbndb.no_retry", refusal=str(refusal))
                failure.__cause__ = refusal
                self._give_up(attempt, failure)
                return False
        return True

    def _send(self, attempt: _Attempt[Decoded]) -> None:
        """Lets a thread send the request at its send time."""
        attempt.started = attempt.ended = attempt.result = attempt.decoded = None
        attempt.is_over.clear()
        # A daemon: a process that is told to end does not wait for ISBNdb. The context: the log names the operation.
        work = partial(copy_context().run, _exchange, attempt, MIN_GAP * self.pace, self.halt, self.came)
        thread = Thread(target=work, daemon=True, name="isbndb")
        self.under_way.add(attempt)
        try:
            thread.start()
        except BaseException:
            if not thread.is_alive():  # nothing will ever come
                attempt.is_over.set()
            raise

    def _send_held_back(self, attempt: _Attempt[Decoded]) -> float | None:
        """Gives a request that was not sent in time another send time; returns what `_send_next` does."""
        call = attempt.call
        if call is None:
            raise AssertionError("unreachable: it was dispatched")
        try:
            wait = quota.move(call)
        except Exception as error:  # noqa: BLE001 (as in `_dispatch`)
            self._drop(self.held_back.popleft(), str(error))
            self._stop(error)
            return None
        now = time.monotonic()
        if wait is None:
            self.held_back.popleft()
            self._send(attempt)
            return now
        look_again = now + wait.total_seconds()
        if look_again <= attempt.wait_until:
            return look_again
        self.held_back.popleft()
        message = "ISBNdb's pace left no time to send it."
        self._record_not_sent(attempt, message)
        self._hand_in(attempt, IsbndbUnavailable(message, retry_after=wait.total_seconds()))
        return now

    def _give_up(self, attempt: _Attempt[Decoded], failure: IsbndbUnavailable) -> None:
        """Lets a question that waits for its retry end with the failure that it had."""
        self.retries.remove(attempt)
        self._hand_in(attempt, failure)

    def _hand_in(self, attempt: _Attempt[Decoded], failure: IsbndbUnavailable) -> None:
        """Lets a question end with a failure that is on record."""
        failure.given_up = True
        attempt.result = failure
        self.under_way.add(attempt)
        self.came.put(attempt)

    def _wait(self, until: float | None) -> _Attempt[Decoded] | None:
        """The next attempt that is over, or None when there is none `until` then.

        A longer wait for the pace holds no connection. While a request is under way, the connection is kept: its answer
        is paid for, and there may be no other connection to store it.
        """
        nap = NAP.total_seconds()
        seconds = math.inf if until is None else max(0.0, until - time.monotonic())
        try:
            return self.came.get(timeout=min(seconds, nap)) if seconds else self.came.get_nowait()
        except Empty:
            if seconds <= nap:
                return None
        if not self.under_way:
            connection.close()
        try:
            return self.came.get(timeout=None if until is None else seconds - nap)
        except Empty:
            return None

    def _judge(self, attempt: _Attempt[Decoded]) -> Exchanged[Decoded] | None:
        """What is over with this attempt; None when the question is asked again, or when everything stops."""
        self.under_way.discard(attempt)
        question, call = attempt.question, attempt.call
        if call is None:
            raise AssertionError("unreachable: only what was dispatched is sent")
        try:
            exchanged = Exchanged(question, call, answer=self._answer_of(attempt, call))
            self.is_down = False
            return exchanged  # noqa: TRY300 (an exception below)
        except IsbndbUnavailable as error:
            if question.may_be_too_large and error.status == 500:
                self.not_before = time.monotonic() + SMALLER_PAGE_PAUSE_SECONDS
                too_large = IsbndbPageTooLarge("ISBNdb failed with status 500: the page may be too large.")
                too_large.__cause__ = error
                return Exchanged(question, call, failure=too_large)
            if not self._will_retry(attempt, error):
                return Exchanged(question, call, failure=error)
        except (IsbndbKeyRefused, IsbndbUnclear, QuotaError) as error:
            self._stop(error)
        except IsbndbError as error:
            return Exchanged(question, call, failure=error)
        except _NotSent:
            if not self.sends_nothing:
                attempt.wait_until = time.monotonic() + MAX_PACE_WAIT.total_seconds()
                self.held_back.append(attempt)
            else:
                self._record_not_sent(attempt, f"Everything stopped before it was sent: {self.stopped_by}")
        return None

    def _will_retry(self, attempt: _Attempt[Decoded], error: IsbndbUnavailable) -> bool:
        """Lets the question wait for its retry; False when it gets none."""
        if attempt.number >= attempt.question.attempts:
            self.is_down = True
            for waiting in tuple(self.retries):
                self._give_up(waiting, waiting.failure or error)
        pause = _pause_before_retry(error, attempt.number)
        if pause is None or self.is_down or self.stopped_by is not None:
            return False
        attempt.failure, attempt.not_before = error, time.monotonic() + pause
        attempt.wait_until = math.inf
        # One question finds out whether ISBNdb is down: it uses up its attempts before another is asked again.
        self.retries.insert(0 if attempt.number > 1 else len(self.retries), attempt)
        return True

    def _answer_of(self, attempt: _Attempt[Decoded], call: DispatchedCall) -> Decoded:
        """Records what came of the request, and returns the answer. Raises what went wrong."""
        question, result = attempt.question, attempt.result
        if isinstance(result, IsbndbUnavailable):  # `_hand_in`
            raise result
        if result is None:
            raise _NotSent
        outcome = Outcome(
            call,
            question,
            result,
            attempt.decoded,
            started=attempt.started,
            ended=attempt.ended,
            is_settled=attempt.ended is not None and attempt.ended < self.counter_asked_at,
        )
        try:
            answer = read(
                outcome,
                ask_counter=partial(self._ask_counter, question.payer),
                slow_down=partial(self._slow_down, call),
            )
        except BaseException:
            _put_aside(question, attempt.decoded)
            raise
        _LATENCIES[question.kind].append(time.monotonic() - (attempt.started or 0))
        return answer

    def _ask_counter(self, payer: Payer) -> Reconciliation:
        """Asks ISBNdb's counter once. It settles what all answers that have come by now mean."""
        self.counter_asked_at = time.monotonic()
        return _ask_counter(payer)

    def _slow_down(self, call: DispatchedCall, seconds: float) -> None:
        """Lets the fleet pause. What we have not sent yet gets a send time after the pause."""
        self._hold_back()
        quota.slow_down(call, seconds=seconds, reason="ISBNdb says that requests come too fast, and asks for a pause.")

    def _drop(self, attempt: _Attempt[Decoded], why: str) -> None:
        """Lets a question end whose request was held back and is not sent any more."""
        self._record_not_sent(attempt, why)
        self._end_payer(attempt)

    def _record_not_sent(self, attempt: _Attempt[Decoded], why: str) -> None:
        if attempt.call is not None:
            outcome = Outcome(attempt.call, attempt.question, _NotSent())
            record(outcome, Call.Outcome.NOT_SENT, error=why)

    def _stop(self, error: Exception) -> None:
        """Dispatches nothing more. What is dispatched is still sent, unless ISBNdb would refuse it."""
        self.stopped_by = self.stopped_by or error
        if isinstance(error, IsbndbError) or (isinstance(error, QuotaRefused) and error.limit == "day_closed"):
            self._send_nothing_more()

    def _send_nothing_more(self) -> None:
        self.sends_nothing = True
        self._hold_back()
        while self.held_back:
            self._drop(self.held_back.popleft(), f"Everything stopped before it was sent: {self.stopped_by}")

    def _hold_back(self) -> None:
        """Holds back the requests whose send time has not come."""
        self.halt.set()
        self.halt = Event()

    def _record_what_is_under_way(self, *, at_once: bool) -> None:
        """Something broke, or the caller has ended the loop. Answers with books are paid for, and put aside.

        They are taken as they come, because the process can be killed meanwhile. `at_once`: only books that have come.
        What is in `came` does not count: if this thread is interrupted when it takes an answer from there, the answer
        is in neither.
        """
        self.stopped_by = self.stopped_by or RuntimeError("The operation ended.")
        self._send_nothing_more()
        left = set(self.under_way)
        while left:
            over = (each for each in left if each.is_over.is_set())
            attempt = next((each for each in over if not at_once or isinstance(each.decoded, Answer)), None)
            if attempt is None:
                if at_once:
                    return
                with suppress(Empty):
                    self.came.get(timeout=1)  # only to wake up
                continue
            left.remove(attempt)
            exchanged = self._judge(attempt)
            self._end_payer(attempt)
            if exchanged is not None:
                _put_aside(exchanged.question, exchanged.answer)

    def _end_payer(self, attempt: _Attempt[Decoded]) -> None:
        if self.ends_payers:
            attempt.question.payer.done()


def _put_aside(question: Question[Any], decoded: object) -> None:
    """Puts aside the books of an answer that nobody takes, and the ISBNs of a batch that ISBNdb does not know."""
    answer = decoded.answer if isinstance(decoded, RawPage) else decoded
    if isinstance(answer, Answer):
        put_aside(answer, missing=answer.missing(question.isbns or ()))


def _no_send_time() -> PaceTimeout:
    """Why the pace has had no send time for so long. Raises QuotaUnavailable."""
    status = get_status()
    if status.paused_until is not None:
        message = f"Nothing is sent until {as_people_read(status.paused_until, seconds=True)}. {status.paused_reason}"
        return PaceTimeout(message, retry_after=status.seconds_paused)
    return PaceTimeout(f"The fleet is busy: there was no send time within {MAX_PACE_WAIT.seconds} s.")


class _NotSent(Exception):
    """The request has missed its send time: it was held back, or its process was late."""


def _exchange(attempt: _Attempt[Any], gap: float, halt: Event, came: SimpleQueue[_Attempt[Any]]) -> None:
    """Waits for the send time, sends the request, decodes the answer, and puts it into `came`. Runs in a thread.

    `gap`: the seconds that it keeps after the request before.
    """
    call = attempt.call
    try:
        if call is not None and not halt.wait(max(0.0, call.send_after - time.monotonic())):
            isbndb.wait_for_turn(gap)
            if time.monotonic() <= call.send_after + MAX_LATE_SECONDS or time.monotonic() >= call.send_before:
                call.claim()
                attempt.started = time.monotonic()
                attempt.result = isbndb.exchange(attempt.question.request, call.send_before)
    except Exception as error:  # noqa: BLE001 (the calling thread raises it)
        attempt.result = error
    attempt.ended = time.monotonic()
    if isinstance(attempt.result, Reply) and attempt.result.status == 200:
        try:
            attempt.decoded = attempt.question.decode(attempt.result.body)
        except Exception as error:  # noqa: BLE001 (the calling thread raises it)
            attempt.decoded = error
    attempt.is_over.set()
    came.put(attempt)


def _pause_before_retry(error: IsbndbUnavailable, attempts: int) -> float | None:
    """Seconds to wait before the next attempt, after so many; None when there must be none."""
    if error.given_up:
        return None
    if error.retry_after is None:
        return FIRST_RETRY_PAUSE_SECONDS * float(2 ** (attempts - 1)) * uniform(1, 3)  # noqa: S311
    return error.retry_after + uniform(0, 1) if error.retry_after <= MAX_RETRY_AFTER_SECONDS else None  # noqa: S311


def _ask_counter(payer: Payer) -> Reconciliation:
    """Asks ISBNdb's counter once and reconciles ours with it. `payer`: of a question that is not over yet.

    Raises what `ask` raises.
    """
    call, theirs = _only(key_usage(payer, attempts=1), ends_payer=False)
    return corrections.reconcile(call, spent=theirs.spent, total=theirs.total, left=theirs.left)


def _only(question: Question[Decoded], *, ends_payer: bool = True) -> tuple[DispatchedCall, Decoded]:
    """Asks one question; returns its last request and the answer. Raises what `ask` raises."""
    questions = iter([question])
    [exchanged] = _results(lambda: next(questions, None), ends_payers=ends_payer)
    if exchanged.answer is None:
        raise exchanged.failure or AssertionError("unreachable: a question has an answer or a failure")
    return exchanged.call, exchanged.answer
